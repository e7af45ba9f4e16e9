"""Gradient scales of residual branches, against the paper's rule written out slowly, and in steps and runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional as F
from toy_run import RUN, STILL, ToyFeed, losses, rows, toy_learner, toy_train

from genus import catalog
from genus.errors import GenusError, UsageError
from genus.model.block.branched import Branched
from genus.model.block.gradient_scaled import GradientScaled
from genus.model.block.parallel import Parallel
from genus.model.block.residual import PostNorm, PreNorm
from genus.model.gradient_scale import GradientScale, scale_gradients, scaled_branches
from genus.model.stack.sharing import CrossLayerSharing
from genus.optim.adamw import AdamW
from genus.train.block_scales import BlockScales
from genus.train.data import MicroBatch
from genus.train.step import TrainStep
from genus.train.world import World

if TYPE_CHECKING:
    from pathlib import Path

HALF = RUN.override("precision", "float16")
ALONE = World(0, 1, torch.device("cpu"))
PRE = STILL.overlay({"block": {"kind": "PreNorm"}})
SCALED = STILL.overlay({"block": {"kind": "GradientScaled", "block": {"kind": "PreNorm"}}})
QUICK = {"doubling": 2, "window": 2, "initial": 2.0**10}
FLOAT16 = 3e-3


class Written:
    """Appendix D, guideline 1, for one block, in Python's numbers: M is left out."""

    def __init__(self, window: int = 125) -> None:
        self.scale, self.window, self.updates, self.fell = 2.0**13, window, 0, -math.inf

    def update(self, finite: bool) -> None:
        self.updates += 1
        if finite:
            self.scale *= 2 ** (1 / 1000)
        elif self.updates - self.fell > self.window:
            self.scale /= math.sqrt(2)
            self.fell = self.updates
        self.scale = min(max(self.scale, 2.0**7), 2.0**24)


def test_the_rule_is_the_papers() -> None:
    """4,000 updates of blocks that never fail, sometimes, often, always, and late."""
    draw = torch.Generator().manual_seed(0)
    chances = [0.0, 0.002, 0.05, 1.0]
    rule, blocks = GradientScale(), [Written() for _ in chances]
    scales = torch.full((len(chances),), rule.initial, dtype=torch.float64)
    since = torch.full((len(chances),), float(rule.window))
    for _ in range(4000):
        wrong = torch.rand(len(chances), generator=draw) < torch.tensor(chances)
        scales, since = rule.updated(scales, since, wrong)
        for block, one in zip(blocks, wrong.tolist(), strict=True):
            block.update(not one)
        assert scales.tolist() == pytest.approx([block.scale for block in blocks], rel=1e-9)
    assert scales[0] == pytest.approx(2.0**17)
    assert scales[-1] == 2.0**7


def test_gradients_pass_a_branch_as_in_figure_4() -> None:
    """By hand: the incoming gradient is scaled and cast; the outgoing one is filtered, unscaled and added."""
    torch.manual_seed(0)
    branch = torch.nn.Linear(4, 4).train()
    weight, bias = (one.detach().clone().half() for one in branch.parameters())
    scale = torch.tensor(2.0**9)
    scale_gradients(branch, scale)
    x = torch.randn(3, 4, requires_grad=True)
    out = x + branch(x)
    assert out.dtype == torch.float32
    assert torch.equal(out, x + F.linear(x.half(), weight, bias).float())
    incoming = torch.randn(3, 4) * 1e-7  # half of float16's smallest numbers
    incoming[2, 1] = 1e3  # which overflows once it is scaled
    out.backward(incoming)
    inside = (incoming * scale).half()
    outgoing = (inside @ weight).float()
    filtered = torch.where(outgoing.isfinite(), outgoing, 0.0)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, incoming + filtered / scale, rtol=1e-3, atol=1e-10)
    assert x.grad.isfinite().all()
    assert branch.weight.grad is not None
    assert not branch.weight.grad.isfinite().all()
    branch.eval()
    assert branch(x).dtype == torch.float32


def gradients(model: object, precision: str) -> tuple[dict[str, torch.Tensor], TrainStep]:
    """Return the gradients of a step of two micro-batches."""
    learner = toy_learner(model=model)  # type: ignore[arg-type]
    train_step = TrainStep(learner, AdamW(lr=0.0, clip_norm=None), RUN.override("precision", precision), ALONE, seed=0)
    found: dict[str, torch.Tensor] = {}

    def keep(*_: object) -> None:
        found.update({name: one.grad.clone() for name, one in learner.named_parameters() if one.grad is not None})

    train_step.optimizer.register_step_pre_hook(keep)
    batches = {place: MicroBatch(ToyFeed()[place], 0.0) for place in range(2)}
    counts = train_step.count(batches)
    assert train_step({n: one.batch for n, one in batches.items()}, 0, 1.0, counts.targets).read().finite
    return found, train_step


@pytest.mark.parametrize("block", [PreNorm(), PostNorm(), Parallel()], ids=lambda block: type(block).__name__)
def test_gradients_are_those_of_float32(block: PreNorm) -> None:
    """Of any residual block, whatever the scales; in float32 and bfloat16 nothing changes at all."""
    plain, scaled = STILL.overlay({"block": block.to_json()}), STILL.overlay(
        {"block": GradientScaled(block=block).to_json()}
    )  # fmt: skip
    wanted, _ = gradients(plain, "float32")
    for precision in ("float32", "bfloat16"):
        own, _ = gradients(scaled, precision)
        same, _ = gradients(plain, precision)
        assert all(torch.equal(own[name], same[name]) for name in wanted)
    found, train_step = gradients(scaled, "float16")
    assert isinstance(train_step.scaling, BlockScales)
    assert len(train_step.scaling.scales) == 4
    norm = math.sqrt(sum(float(one.square().sum()) for one in wanted.values()))
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=0.02, atol=FLOAT16 * norm, msg=name)


def test_a_fault_is_its_own_blocks() -> None:
    """An overflow within a branch skips the update, lowers its own scale alone, and reaches no block before it."""
    learner = toy_learner(model=SCALED.overlay({"block": {"scale": QUICK}}))
    train_step = TrainStep(learner, AdamW(lr=1e-2), HALF, ALONE, seed=0)
    scaling = train_step.scaling
    assert isinstance(scaling, BlockScales)
    last = learner.network.layers[1].feedforward  # type: ignore[index, union-attr]
    last.out.bias.register_hook(lambda gradient: gradient * torch.inf)
    before = [weight.detach().clone() for weight in learner.parameters()]
    batches = {0: MicroBatch(ToyFeed()[0], 0.0)}
    counts = train_step.count(batches)
    result = train_step({0: ToyFeed()[0]}, 0, 1.0, counts.targets).read()
    assert result.skipped
    assert result.finite
    assert all(torch.equal(a, b) for a, b in zip(before, learner.parameters(), strict=True))
    grown, fallen = 2.0**10.5, 2.0**9.5
    assert scaling.scales.tolist() == pytest.approx([grown, grown, grown, fallen])
    assert result.means["gradient_scale/smallest"] == pytest.approx(fallen)
    assert result.means["skipped_updates"] == 1


def test_layers_of_shared_weights_share_a_scale() -> None:
    _, train_step = gradients(SCALED.overlay({"stack": CrossLayerSharing().to_json()}), "float16")
    assert isinstance(train_step.scaling, BlockScales)
    assert len(train_step.scaling.scales) == 2


def test_a_run_is_near_and_is_resumed(tmp_path: Path) -> None:
    toy_train(tmp_path / "float32", learner=toy_learner(model=PRE))
    whole, halves = (toy_learner(model=SCALED.overlay({"block": {"scale": QUICK}}), seed=0) for _ in range(2))
    toy_train(tmp_path / "whole", learner=whole, run=HALF)
    toy_train(tmp_path / "cut", learner=halves, run=HALF)
    for step in (8, 10):
        (tmp_path / "cut" / "checkpoints" / f"checkpoint-{step}" / "state.json").write_text("")
    toy_train(tmp_path / "cut", learner=halves, run=HALF, resume=True)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    a, b = ([loss for _, loss in losses(tmp_path / name)] for name in ("float32", "whole"))
    assert a == pytest.approx(b, rel=FLOAT16)
    assert rows(tmp_path / "whole")[-1]["gradient_scale/largest"] == pytest.approx(2.0**15)


def test_a_run_that_skips_for_ever_ends(tmp_path: Path) -> None:
    """A scale from 2^8 falls three times, to below 2^7, with one update between."""
    rule = {"initial": 2.0**8, "window": 2}
    learner = toy_learner(model=SCALED.overlay({"block": {"scale": rule}}))
    next(iter(learner.network.layers.parameters())).register_hook(lambda gradient: gradient * torch.nan)  # type: ignore[union-attr]
    with pytest.raises(
        GenusError, match=r"^step 6: float16's gradients were not finite in 6 updates in a row"
    ) as found:
        toy_train(tmp_path, learner=learner, run=HALF)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"block": {"block": Branched().to_json()}}, "no residual branches of their own"),
        ({"embedding": {"position": {"kind": "RelativeBuckets"}}}, "cannot be scaled"),
        ({"block": {"scale": {"initial": 1.0}}}, "between smallest and largest"),
    ],
    ids=["branched", "bias", "bounds"],
)
def test_what_cannot_be_scaled_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        SCALED.overlay(change)


def test_dall_e_has_a_scale_for_each_of_its_resblocks() -> None:
    """128 of 64 layers (appendix D), counted on its first two."""
    row = catalog.load("dall-e/12b")
    assert row.model.layers == 64  # type: ignore[attr-defined]
    small = catalog.load("dall-e/tiny").overlay({"model": {"block": row.model.block.to_json()}})  # type: ignore[attr-defined]
    assert len(list(scaled_branches(small.learner()))) == 2 * 2

"""float16 with a dynamic loss scale: PyTorch's rule, updates that are skipped, and runs that are resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from toy_run import RUN, ToyFeed, losses, rows, toy_learner, toy_train

from genus.errors import GenusError, UsageError
from genus.optim.adamw import AdamW
from genus.optim.averaging import AveragedAdamW
from genus.optim.lamb import LAMB
from genus.recipe import Budget
from genus.train import gradient_scaling
from genus.train.data import MicroBatch
from genus.train.gradient_scaling import LossScale
from genus.train.step import TrainStep
from genus.train.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner
    from genus.optim import Optimizer

HALF = RUN.override("precision", "float16")
ALONE = World(0, 1, torch.device("cpu"))
FLOAT16 = 2e-3
"""Relative: losses of a few steps, with products of 11 bits."""


def test_the_scale_is_that_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.amp.GradScaler`, given the same gradients, some of which are not finite."""
    monkeypatch.setattr(gradient_scaling, "INTERVAL", 3)
    theirs = torch.amp.GradScaler("cpu", growth_interval=3)
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    ours = LossScale("float16", ALONE)
    draw = torch.Generator().manual_seed(0)
    for step in range(60):
        finite = bool(torch.rand((), generator=draw) < 0.8)
        optimizer.zero_grad()
        theirs.scale(weight.sum()).backward()  # type: ignore[no-untyped-call]
        assert weight.grad is not None
        mine = torch.nn.Parameter(torch.ones(3))
        ours.scaled(mine.sum()).backward()  # type: ignore[no-untyped-call]
        assert mine.grad is not None
        assert torch.equal(mine.grad, weight.grad)
        weight.grad[1] = weight.grad[1] if finite else torch.inf
        theirs.step(optimizer)
        theirs.update()
        ours.unscale([mine])
        assert torch.equal(mine.grad, torch.ones(3))
        ours.update(torch.tensor(finite))
        assert float(ours.scale) == theirs.get_scale(), step
        assert bool(ours.skip) == (not finite)
    assert 0 < float(ours.skipped) < 60


def test_the_scale_never_becomes_infinite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient_scaling, "INTERVAL", 1)
    ours = LossScale("float16", ALONE)
    for _ in range(200):
        ours.update(torch.tensor(True))
    assert float(ours.scale) == 2.0**127


def test_float16_is_near(tmp_path: Path) -> None:
    toy_train(tmp_path / "float32")
    toy_train(tmp_path / "float16", run=HALF)
    a, b = ([loss for _, loss in losses(tmp_path / name)] for name in ("float32", "float16"))
    assert a != b
    assert a == pytest.approx(b, rel=FLOAT16)
    assert all(row["skipped_updates"] == 0.0 for row in rows(tmp_path / "float16") if "loss" in row)


def spoilt(learner: Learner, *steps: int) -> Learner:
    """Make the gradient of the embedding infinite in some steps of two micro-batches, as in an overflow."""
    calls = iter(range(1_000_000))

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        return gradient * torch.inf if next(calls) // 2 + 1 in steps else gradient

    learner.network.token_embedding.weight.register_hook(spoil)  # type: ignore[no-untyped-call]
    return learner


def test_scale_and_counts_are_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps 3 and 6 overflow, the scale grows after 2; a run from checkpoint 4 is the run that was not cut."""
    monkeypatch.setattr(gradient_scaling, "INTERVAL", 2)
    whole, halves = spoilt(toy_learner(), 3, 6), spoilt(toy_learner(seed=1), -2, 2)
    toy_train(tmp_path / "whole", learner=whole, run=HALF)
    toy_train(tmp_path / "cut", learner=spoilt(toy_learner(), 3, 6), run=HALF)
    for step in (8, 10):
        (tmp_path / "cut" / "checkpoints" / f"checkpoint-{step}" / "state.json").write_text("")
    toy_train(tmp_path / "cut", learner=halves, run=HALF, resume=True)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    found = [(row["loss_scale"], row["skipped_updates"]) for row in rows(tmp_path / "whole") if "loss_scale" in row]
    assert found[:7] == [
        (2.0**16, 0), (2.0**17, 0), (2.0**16, 1), (2.0**16, 1), (2.0**17, 1), (2.0**16, 2), (2.0**16, 2)
    ]  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(whole.tensors().values(), halves.tensors().values(), strict=True))


def test_a_run_in_another_precision_goes_on(tmp_path: Path) -> None:
    """What it has of scales is left aside; without any, the scale begins anew."""
    toy_train(tmp_path, run=HALF)
    for run, amount in ((RUN, 12), (HALF, 14)):
        toy_train(tmp_path, run=run, resume=True, budget=Budget(amount=amount))
    assert [step for step, _ in losses(tmp_path)] == list(range(1, 15))


@pytest.mark.parametrize(
    "choice", [AdamW(lr=1e-2), AdamW(lr=1e-2, bias_correction=False), LAMB(lr=1e-2), AveragedAdamW(lr=1e-2)], ids=str
)
def test_a_skipped_update_changes_neither_weights_nor_moments(choice: Optimizer) -> None:
    learner = spoilt(toy_learner(), 2)
    train_step = TrainStep(learner, choice, HALF, ALONE, seed=0)

    def state() -> list[torch.Tensor]:
        moments = [torch.as_tensor(one).clone() for own in train_step.optimizer.state.values() for one in own.values()]
        return [*(weight.detach().clone() for weight in learner.parameters()), *moments]

    found = []
    for step in range(3):
        batches = {2 * step + place: MicroBatch(ToyFeed()[2 * step + place], 0.0) for place in range(2)}
        counts = train_step.count(batches)
        before = state()
        result = train_step({n: one.batch for n, one in batches.items()}, 0, 1.0, counts.targets).read()
        assert result.finite
        same = [torch.equal(a, b) for a, b in zip(before, state(), strict=step > 0)]
        found.append((result.skipped, all(same)))
    assert found == [(False, False), (True, True), (False, False)]


def test_a_run_that_skips_for_ever_ends(tmp_path: Path) -> None:
    """From 2^16 to below 1e-4 in 30 steps; a scale that begins lower takes fewer."""
    learner = spoilt(toy_learner(), *range(1, 1000))
    with pytest.raises(GenusError) as caught:
        toy_train(tmp_path, learner=learner, run=HALF, budget=Budget(amount=100))
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("step 30: float16's gradients are not finite at a loss scale of")
    assert "run.precision=float32" in text
    made = [row for row in rows(tmp_path) if "loss" in row]
    assert [row["skipped_updates"] for row in made] == list(range(1, 30))
    assert all("gradient_norm" not in row for row in made)


def test_the_noise_scale_is_refused() -> None:
    with pytest.raises(UsageError, match="float16's scaled gradients"):
        toy_train(None, run=HALF.override("noise_scale", True))

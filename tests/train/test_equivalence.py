"""How a step is computed changes nothing: workers, processes, micro-batches, number format, compilation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from toy_run import RUN, STILL, Joined, ToyFeed, losses, rows, toy_learner, toy_train

from forked import ranks
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget
from genus.train.data import MicroBatch, TrainStage
from genus.train.step import StepResult, TrainStep
from genus.train.world import World

if TYPE_CHECKING:
    from pathlib import Path

SUMMATION = 1e-5
"""Relative; float32 gradients are summed in another order."""
SMALLEST = 1e-7
"""Absolute; gradients that cancel to about zero have no relative error."""
BFLOAT16 = 2e-2
"""Relative; 8 bits of mantissa, over the first steps."""


@pytest.mark.parametrize("workers", [1, 4])
def test_workers(tmp_path: Path, workers: int) -> None:
    toy_train(tmp_path / "none")
    toy_train(tmp_path / "some", run=RUN.override("workers", workers))
    assert rows(tmp_path / "none") == rows(tmp_path / "some")


def test_two_processes(tmp_path: Path) -> None:
    """Dropout is on; the second process begins with other weights, which the first one's replace.

    Interrupted by a signal to the second process alone, both stop after the same step, and both resume.
    """
    toy_train(tmp_path / "one")
    ranks(2, "two_processes", tmp_path)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "whole")
    assert [step for step, _ in one] == [step for step, _ in two]
    assert [loss for _, loss in one] == pytest.approx([loss for _, loss in two], rel=SUMMATION)
    assert [row["tokens"] for row in rows(tmp_path / "one")] == [row["tokens"] for row in rows(tmp_path / "whole")]
    assert losses(tmp_path / "halves") == two


def test_accumulation() -> None:
    """One micro-batch of four, two of two, four of one: the gradient is that of the whole step, every target alike."""
    counts = {int((ToyFeed()[number].targets["masked_lm"].label >= 0).sum()) for number in range(4)}
    assert len(counts) > 1, "with equal counts a mean of means would pass"
    (whole, wanted), *split = (one_step(several) for several in (4, 2, 1))
    for result, gradients in split:
        assert (result.loss, result.gradient_norm) == pytest.approx((whole.loss, whole.gradient_norm), rel=SUMMATION)
        assert result.means["masked_lm/correct"] == whole.means["masked_lm/correct"]
        torch.testing.assert_close(gradients, wanted, rtol=SUMMATION, atol=SMALLEST)


def one_step(several: int) -> tuple[StepResult, list[torch.Tensor]]:
    """Return the result and the gradients of a step of four toy micro-batches, taken several at a time."""
    learner = toy_learner(model=STILL)
    train_step = TrainStep(learner, AdamW(lr=0.0), RUN, World(0, 1, torch.device("cpu")), seed=0)
    batches = {number: Joined(several)[number] for number in range(4 // several)}
    counts = train_step.count({number: MicroBatch(batch, 0.0) for number, batch in batches.items()})
    assert counts.tokens == sum(batch.tokens.tokens for batch in batches.values())
    found: list[torch.Tensor] = []
    train_step.optimizer.register_step_pre_hook(lambda *_: found.extend(p.grad.clone() for p in learner.parameters()))
    return train_step(batches, 0, 1.0, counts.targets).read(), found


def test_clipping() -> None:
    """The norm is that before clipping, and a step of plain descent is as long as the clipped gradient."""
    learner = toy_learner()
    train_step = TrainStep(learner, AdamW(lr=0.0, clip_norm=0.5), RUN, World(0, 1, torch.device("cpu")), seed=0)
    clipped = []
    train_step.optimizer.register_step_pre_hook(
        lambda *_: clipped.append(sum(float(p.grad.square().sum()) for p in learner.parameters()) ** 0.5)
    )
    counts = train_step.count({0: MicroBatch(ToyFeed()[0], 0.0)})
    result = train_step({0: ToyFeed()[0]}, 0, 1.0, counts.targets).read()
    assert result.gradient_norm > 0.5
    assert clipped == [pytest.approx(0.5, rel=1e-4)]


def test_bfloat16_is_near(tmp_path: Path) -> None:
    toy_train(tmp_path / "float32")
    toy_train(tmp_path / "bfloat16", run=RUN.override("precision", "bfloat16"))
    a, b = ([loss for _, loss in losses(tmp_path / name)] for name in ("float32", "bfloat16"))
    assert a != b
    assert a == pytest.approx(b, rel=BFLOAT16)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # PyTorch's compiler imports what it deprecates
def test_compiled_is_near(tmp_path: Path) -> None:
    short = {"schedule": Linear(), "budget": Budget(amount=3), "stages": [TrainStage(ToyFeed())]}
    found = []
    for compiled in (False, True):
        learner = toy_learner(model=STILL)
        folder = tmp_path / str(compiled)
        toy_train(folder, learner=learner, run=RUN.override("compile", compiled), **short)
        found.append([loss for _, loss in losses(folder)])
    assert found[0] == pytest.approx(found[1], rel=SUMMATION)

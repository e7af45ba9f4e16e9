"""Schedules against those of transformers, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from genus.optim.schedule import Constant, Cosine, CosineThenConstant, Exponential, InverseSquareRoot, Linear

if TYPE_CHECKING:
    from genus.optim import Schedule

TOTAL, WARM = 200, 20
EXACT = 1e-12
"""Both are a handful of float64 operations."""

NAMES = {
    "linear": Linear(warmup=WARM / TOTAL),
    "cosine": Cosine(warmup=WARM / TOTAL),
    "constant_with_warmup": Constant(warmup=WARM / TOTAL),
    "inverse_sqrt": InverseSquareRoot(warmup=WARM / TOTAL),
}


@pytest.mark.parametrize("name", NAMES)
def test_equals_transformers(name: str) -> None:
    optimization = pytest.importorskip("transformers.optimization")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = optimization.get_scheduler(name, optimizer, num_warmup_steps=WARM, num_training_steps=TOTAL)
    for step in range(TOTAL):
        assert NAMES[name].factor(step / TOTAL) == pytest.approx(theirs.get_last_lr()[0], abs=EXACT), step
        optimizer.step()
        theirs.step()


def test_exponential_decay_has_one_factor_for_all_steps() -> None:
    """PyTorch's `ExponentialLR`, after a linear warm-up."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97)
    ours = Exponential(end=0.97 ** (TOTAL - WARM), warmup=WARM / TOTAL)
    assert ours.factor(WARM / TOTAL / 2) == pytest.approx(0.5)
    for step in range(WARM, TOTAL + 1):
        assert ours.factor(step / TOTAL) == pytest.approx(theirs.get_last_lr()[0], abs=EXACT), step
        optimizer.step()
        theirs.step()


def test_cosine_ends_at_its_floor() -> None:
    assert Cosine(warmup=0.1, floor=0.25).factor(1.0) == pytest.approx(0.25)
    assert Cosine(warmup=0.1, floor=0.25).factor(0.1) == pytest.approx(1.0)


@pytest.mark.parametrize("schedule", [Linear(warmup=0.0), Constant(), Cosine(warmup=0.0)])
def test_no_warm_up_begins_at_the_peak(schedule: Schedule) -> None:
    assert schedule.factor(0.0) == 1.0


def test_an_inverse_square_root_needs_a_warm_up() -> None:
    with pytest.raises(ValueError, match="warmup: expected a share above 0 and at most 1, got 0"):
        InverseSquareRoot(warmup=0.0)


def test_a_cosine_that_ends_early_stays_on_its_floor() -> None:
    whole, held = Cosine(warmup=0.1, floor=0.1), CosineThenConstant(warmup=0.05, floor=0.1, end=0.5)
    for spent in (0.0, 0.02, 0.05, 0.3, 0.5):
        assert held.factor(spent) == pytest.approx(whole.factor(2 * spent))
    assert held.factor(0.5) == held.factor(0.8) == held.factor(1.0) == pytest.approx(0.1)
    assert CosineThenConstant(warmup=0.1, end=1.0).factor(0.7) == Cosine(warmup=0.1).factor(0.7)
    with pytest.raises(ValueError, match="before its warm-up"):
        CosineThenConstant(warmup=0.5, end=0.5)

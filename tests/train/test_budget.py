"""Budgets in every unit, stages by share, rates over the fraction spent, and which micro-batches come when."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import pytest
import torch
from toy_run import RUN, ToyFeed, losses, per_token, rows, toy_train

from genus.errors import UsageError
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget
from genus.train.data import TrainStage, steps
from genus.train.progress import Progress, ends
from genus.train.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from genus.batch import Batch

CPU = torch.device("cpu")
ROUNDED = 1e-9
"""Fractions of epochs are summed up in floating point."""


class Watched(ToyFeed):
    """A feed that remembers what was asked of it."""

    def __getitem__(self, number: int) -> Batch:
        asked.append((self.salt, number))
        return super().__getitem__(number)


asked: list[tuple[int, int]] = []


def test_ten_steps_in_every_unit(tmp_path: Path) -> None:
    """A step is two micro-batches of 32 tokens, at 3 FLOPs a token; ten micro-batches are an epoch."""
    amounts = {"steps": 10, "tokens": 640, "flops": 1920, "epochs": 2}
    stages = [TrainStage(ToyFeed(), 2, 0.6, per_token(3.0)), TrainStage(ToyFeed(salt=1), 2, 0.4, per_token(3.0))]
    found = {}
    for unit, amount in amounts.items():
        folder = tmp_path / unit
        summary = toy_train(folder, stages=stages, budget=Budget(amount=amount, unit=unit))
        progress = summary.progress
        assert (progress.step, progress.tokens, progress.flops) == (10, 640, 1920.0)
        assert progress.epochs == pytest.approx(2.0, rel=ROUNDED)
        found[unit] = [(row["stage"], row["lr"], row["spent"]) for row in rows(folder)]
    stages = [stage for stage, _, _ in found["steps"]]
    assert stages == [0] * 6 + [1] * 4
    assert [lr for _, lr, _ in found["steps"]] == [1e-2 * Linear(warmup=0.2).factor(step / 10) for step in range(10)]
    for unit in ("tokens", "flops", "epochs"):
        for left, right in zip(found[unit], found["steps"], strict=True):
            assert left == pytest.approx(right, rel=ROUNDED)


def test_seconds() -> None:
    progress = toy_train(None, budget=Budget(amount=0.3, unit="seconds")).progress
    assert progress.seconds >= 0.3
    assert progress.seconds - 0.3 < progress.seconds / progress.step * 20  # one step too many, not many
    assert progress.stage == 1


def test_each_stage_takes_its_own_micro_batches_in_order() -> None:
    asked.clear()
    toy_train(None, stages=[TrainStage(Watched(), 2, 0.6), TrainStage(Watched(salt=1), 3, 0.4)])
    assert asked == [(0, number) for number in range(12)] + [(1, number) for number in range(12)]


@pytest.mark.parametrize("size", [2, 3])
def test_processes_share_every_step(size: int) -> None:
    """Together they take each micro-batch of each step once, also from the middle of a run on and with a remainder."""
    stretch = TrainStage(ToyFeed(), accumulate=4)
    taken = [list(islice(steps(stretch, 5, World(rank, size, CPU), 0), 3)) for rank in range(size)]
    for step in range(3):
        shares = [sorted(taken[rank][step]) for rank in range(size)]
        assert sorted(number for share in shares for number in share) == list(range((5 + step) * 4, (6 + step) * 4))
        assert all(number % 4 % size == rank for rank, share in enumerate(shares) for number in share)


def test_more_processes_than_micro_batches_are_refused() -> None:
    with pytest.raises(UsageError, match="2 processes cannot share 1 micro-batches"):
        next(steps(TrainStage(ToyFeed(), accumulate=1), 0, World(0, 2, CPU), 0))


def test_shares_that_floating_point_cannot_add_end_where_they_should() -> None:
    four = [TrainStage(ToyFeed(), share=share) for share in (0.1, 0.2, 0.3, 0.4)]
    for last, end in zip((1, 3, 6, 10), ends(four), strict=True):
        assert Progress(step=last - 1).spent(Budget(amount=10)) < end <= Progress(step=last).spent(Budget(amount=10))


def test_nothing_left_to_spend_is_an_evaluation(tmp_path: Path) -> None:
    first = toy_train(tmp_path)
    summary = toy_train(tmp_path, resume=True, evaluate=lambda learner: {"score": 0.5})
    assert summary.progress == replace(first.progress, evaluation={"score": 0.5}, evaluated=first.progress.step)
    assert not summary.stopped


def test_evaluation_at_intervals_and_at_the_end(tmp_path: Path) -> None:
    calls = iter(range(1, 10))
    run = RUN.override("evaluate_every", 4)
    summary = toy_train(tmp_path, run=run, evaluate=lambda learner: {"call": float(next(calls))})
    found = [(row["step"], row["held_out/call"]) for row in rows(tmp_path) if "held_out/call" in row]
    assert found == [(4, 1.0), (8, 2.0), (10, 3.0)]
    assert summary.progress.evaluation == {"call": 3.0}


def test_publishing_at_checkpoints_and_once_at_the_end(tmp_path: Path) -> None:
    published = []
    toy_train(tmp_path, publish=lambda learner: published.append(len(losses(tmp_path))))
    assert published == [4, 8, 10]


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    toy_train(None, optimizer=AdamW(lr=1e-3))
    assert not list(tmp_path.iterdir())

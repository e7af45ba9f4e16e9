"""Whatever optimizer there is trains, is resumed bit for bit, and keeps beside the weights what it says it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file
from toy_run import RUN, ToyFeed, losses, toy_learner, toy_train

from genus import catalog
from genus.optim import Optimizer
from genus.part import slots_of
from genus.recipe import Budget
from genus.train.data import TrainStage

if TYPE_CHECKING:
    from pathlib import Path

    from genus.batch import Batch

LEARNED = 0.8
"""Share of its first value under which the loss must fall."""
RATES = {"Adafactor": 5e-2, "NVLAMB": 5e-2, "Lion": 2e-3}
"""Where 1e-2 is too low, a share of small weights, or too high, a step of every weight."""
KINDS = list(slots_of(Optimizer))  # type: ignore[type-abstract]  # a slot is abstract

kinds = pytest.mark.parametrize("kind", KINDS)


def chosen(kind: str) -> Optimizer:
    """Return the optimizer as `--set optimizer.kind=... --set optimizer.lr=...` gives it for a row with AdamW."""
    return catalog.load("roberta/tiny", [f"optimizer.kind={kind}", f"optimizer.lr={RATES.get(kind, 1e-2)}"]).optimizer


@kinds
def test_ten_steps_are_six_and_the_rest(kind: str, tmp_path: Path) -> None:
    optimizer, whole, halves = chosen(kind), toy_learner(), toy_learner(seed=1)
    assert type(optimizer).__name__ == kind
    toy_train(tmp_path / "whole", learner=whole, optimizer=optimizer)
    run = RUN.override("checkpoint_every", 6)
    toy_train(tmp_path / "halves", optimizer=optimizer, run=run)
    last = tmp_path / "halves" / "checkpoints" / "checkpoint-10"
    (last / "manifest.json").unlink()  # broken: the run goes on from checkpoint 6
    toy_train(tmp_path / "halves", learner=halves, optimizer=optimizer, run=run, resume=True)
    assert losses(tmp_path / "whole") == losses(tmp_path / "halves")
    assert all(torch.equal(a, b) for a, b in zip(whole.tensors().values(), halves.tensors().values(), strict=True))


@dataclass(frozen=True)
class Sevens(ToyFeed):
    """Every label is one token: a thing to learn."""

    def __getitem__(self, number: int) -> Batch:
        batch = super().__getitem__(number)
        label = batch.targets["masked_lm"].label
        label[label >= 0] = 7
        return batch


@kinds
def test_it_learns_and_keeps_what_it_says(kind: str, tmp_path: Path) -> None:
    optimizer, learner = chosen(kind), toy_learner()
    toy_train(tmp_path, learner=learner, optimizer=optimizer, budget=Budget(amount=30), stages=[TrainStage(Sevens())])
    ran = losses(tmp_path)
    assert ran[-1][1] < LEARNED * ran[0][1]
    kept = load_file(tmp_path / "checkpoints" / "checkpoint-30" / "optimizer.safetensors")
    numbers = sum(value.numel() for value in kept.values()) / sum(weight.numel() for weight in learner.parameters())
    assert round(numbers) == optimizer.moments

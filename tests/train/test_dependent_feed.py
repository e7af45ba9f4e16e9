"""Data that depend on the weights: they are made before each update, in this process, and kept in checkpoints."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
import torch
from toy_run import RUN, STILL, ToyFeed, losses, rows, toy_learner, toy_train

from genus.train.data import DependentFeed, TrainStage

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from genus.batch import Batch
    from genus.objectives import Learner

EACH = 3
"""Updates that are made of what is made once."""


class OfTheWeights:
    """Micro-batches of another salt whenever a sum of the weights is another; each three updates have one salt."""

    def __init__(self) -> None:
        self.number, self.salt = -1, 0
        self.asked: list[int] = []
        self.made: list[int] = []

    def __getitem__(self, number: int) -> Batch:
        assert number // 2 == self.asked[-1], "a micro-batch is read before its update is prepared"
        return ToyFeed(self.salt)[number]

    def epoch(self, number: int) -> float:
        return number / 10

    def prepare(self, step: int, learner: Learner) -> dict[str, float]:
        self.asked.append(step)
        if step // EACH == self.number:
            return {}
        self.number = step // EACH
        total = sum(weight.detach().double().sum() for weight in learner.parameters())
        self.salt = int(cast("Tensor", total).item() * 1e6) % 1000
        self.made.append(step)
        return {"salt": float(self.salt)}

    def tensors(self) -> dict[str, Tensor]:
        return {"state": torch.tensor([self.number, self.salt])}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.number, self.salt = tensors["state"].tolist()


def run(folder: Path, *, resume: bool = False) -> OfTheWeights:
    feed = OfTheWeights()
    assert isinstance(feed, DependentFeed)
    settings = replace(RUN, workers=2, checkpoint_every=4, keep=10)
    toy_train(folder, learner=toy_learner(model=STILL), stages=[TrainStage(feed, 2)], run=settings, resume=resume)
    return feed


def test_each_update_is_prepared_before_it_is_read_and_told(tmp_path: Path) -> None:
    """Although worker processes were asked for, which would not have what is made here."""
    feed = run(tmp_path)
    assert feed.asked == list(range(10))
    assert feed.made == [0, 3, 6, 9]
    assert [row["step"] for row in rows(tmp_path) if "rollout/salt" in row] == [1, 4, 7, 10]


@pytest.mark.parametrize("step", [4, 8])
def test_a_run_resumes_from_within_what_was_made(tmp_path: Path, step: int) -> None:
    run(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    for checkpoint in (tmp_path / "part" / "checkpoints").iterdir():
        if int(checkpoint.name.split("-")[1]) > step:
            shutil.rmtree(checkpoint)
    feed = run(tmp_path / "part", resume=True)
    assert feed.made == [one for one in (6, 9) if one >= step], "what the checkpoint holds is not made anew"
    assert losses(tmp_path / "part") == losses(tmp_path / "whole")
    files = [
        one / "checkpoints" / "checkpoint-10" / "model.safetensors" for one in (tmp_path / "part", tmp_path / "whole")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()

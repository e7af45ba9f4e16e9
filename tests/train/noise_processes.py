"""A run of two processes that measures its noise scale."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from toy_run import RUN, STILL, ToyFeed, toy_learner, toy_train

from genus.train.data import TrainStage

if TYPE_CHECKING:
    from pathlib import Path


def main(folder: Path) -> None:
    """Make the run."""
    learner = toy_learner(seed=int(os.environ["RANK"]), model=STILL)
    run = RUN.override("noise_scale", True)
    toy_train(folder, learner=learner, run=run, stages=[TrainStage(ToyFeed(), 4)])

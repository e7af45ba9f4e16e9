"""What each process of a two-process run does."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from toy_run import RUN, toy_learner, toy_train

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner


def main(folder: Path) -> None:
    """Make a whole run, and one that is stopped and goes on."""
    rank, calls = int(os.environ["RANK"]), iter(range(1, 100))

    def interrupt(learner: Learner) -> dict[str, float]:
        """Press Ctrl-C for the second process alone, after step 4."""
        if next(calls) == 4 and rank == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    toy_train(folder / "whole", learner=toy_learner(seed=rank))
    often = RUN.override("evaluate_every", 1)
    stopped = toy_train(folder / "halves", learner=toy_learner(seed=rank), run=often, evaluate=interrupt)
    assert stopped.stopped
    assert stopped.progress.step == 5
    toy_train(folder / "halves", learner=toy_learner(seed=7), resume=True)

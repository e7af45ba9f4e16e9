"""What each process of a two-process run does; started by torchrun."""

import os
import signal
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_run import RUN, toy_learner, toy_train

from genus.objectives import Learner

torch.set_num_threads(1)
RANK, FOLDER = int(os.environ["RANK"]), Path(sys.argv[1])
calls = iter(range(1, 100))


def interrupt(learner: Learner) -> dict[str, float]:
    """Press Ctrl-C for the second process alone, after step 4."""
    if next(calls) == 4 and RANK == 1:
        os.kill(os.getpid(), signal.SIGINT)
    return {}


toy_train(FOLDER / "whole", learner=toy_learner(seed=RANK))
often = RUN.override("evaluate_every", 1)
stopped = toy_train(FOLDER / "halves", learner=toy_learner(seed=RANK), run=often, evaluate=interrupt)
assert stopped.stopped
assert stopped.progress.step == 5
toy_train(FOLDER / "halves", learner=toy_learner(seed=7), resume=True)

"""A run of two processes that measures its noise scale; started by torchrun."""

import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_run import RUN, STILL, ToyFeed, toy_learner, toy_train

from genus.train.data import TrainStage

torch.set_num_threads(1)
learner = toy_learner(seed=int(os.environ["RANK"]), model=STILL)
run = RUN.override("noise_scale", True)
toy_train(Path(sys.argv[1]), learner=learner, run=run, stages=[TrainStage(ToyFeed(), 4)])

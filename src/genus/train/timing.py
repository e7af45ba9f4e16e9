"""The time of a training step on this machine, as busy as it is: what a run will take is told from it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from genus.train.loop import own_random_numbers
from genus.train.step import TrainStep
from genus.train.world import init_distributed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from genus.batch import Batch
    from genus.objectives import Learner
    from genus.optim import Optimizer
    from genus.train.run import Run

FIRST = 3
"""Steps before the clock runs, in which memory is allocated and kernels are chosen."""


def seconds_a_step(
    build: Callable[[], Learner],
    optimizer: Optimizer,
    batches: Callable[[int], Mapping[int, Batch]],
    run: Run,
    looked_at: float,
) -> float:
    """Return the mean time of a training step.

    Args:
        build: returns the learner that is trained, and thrown away.
        optimizer: the update rule.
        batches: returns the micro-batches of a step by their numbers.
        run: device, precision and threads.
        looked_at: seconds for which steps are counted.
    """
    world = init_distributed(run)
    with own_random_numbers(world.device):
        learner = build().to(world.device)
        train_step = TrainStep(learner, optimizer, run, world, 0)
        done, begun = -FIRST, time.perf_counter()
        while done <= 0 or time.perf_counter() - begun < looked_at:
            micro = batches(done + FIRST)
            each = [learner.counts(batch) for batch in micro.values()]
            counts = {name: sum(one[name] for one in each[1:]) + each[0][name] for name in each[0]}
            train_step(micro, 0, 0.0, counts).read()
            done += 1
            begun = time.perf_counter() if done == 0 else begun
        return (time.perf_counter() - begun) / done

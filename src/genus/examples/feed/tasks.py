"""Several feeds that take turns: each step of training is one feed's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from genus.examples.keys import TURN, generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from genus.batch import Batch
    from genus.examples.feed.feed import Feed


@dataclass(frozen=True)
class Cycle:
    """An endless sequence of the numbers 0 to n - 1, each of which occurs `counts` times in every cycle.

    The order within a cycle is drawn from (seed, number of the cycle).
    """

    counts: tuple[int, ...]
    seed: int

    def member(self, place: int) -> int:
        """Return the number at a place of the sequence."""
        cycle, within = divmod(place, sum(self.counts))
        return int(_order(self.seed, cycle, self.counts)[within])

    def before(self, place: int) -> NDArray[np.int64]:
        """Return (n,) how often each number occurs before a place."""
        cycle, within = divmod(place, sum(self.counts))
        begun = _order(self.seed, cycle, self.counts)[:within]
        return cycle * np.array(self.counts) + np.bincount(begun, minlength=len(self.counts))


@dataclass(frozen=True)
class TaskFeed:
    """A feed, who learns from it, and how often."""

    feed: Feed
    heads: frozenset[str]
    """Names of the objectives."""
    steps: int
    """Steps of each round that are its own."""


@dataclass(frozen=True)
class TaskSchedule:
    """`turns[m]` is micro-batch m of steps of `accumulate` micro-batches, all those of a step from one feed.

    Every round of as many steps as the shares have together gives each its number of them, in an order drawn from
    (seed, number of the round). Each feed is read in its own order without a gap, so what a step gets is a pure
    function of its number, and an epoch of a feed holds everything once.
    """

    tasks: tuple[TaskFeed, ...]
    accumulate: int
    seed: int

    def __getitem__(self, number: int) -> Batch:
        """Return micro-batch `number`."""
        step, within = divmod(number, self.accumulate)
        turn, before = self._cycle.member(step), self._cycle.before(step)
        return _marked(self.tasks[turn], self.tasks[turn].feed[int(before[turn]) * self.accumulate + within])

    def epoch(self, number: int) -> float:
        """Return how many passes over the text are made before micro-batch `number`, by all feeds together."""
        step, within = divmod(number, self.accumulate)
        taken = self._cycle.before(step) * self.accumulate
        taken[self._cycle.member(step)] += within
        return sum(share.feed.epoch(int(count)) for share, count in zip(self.tasks, taken, strict=True))

    def evaluation_batches(self) -> Iterator[Batch]:
        """Return an epoch of each feed, a batch of each in turn."""
        each = zip_longest(*(share.feed.evaluation_batches() for share in self.tasks))
        for batches in each:
            for share, batch in zip(self.tasks, batches, strict=True):
                if batch is not None:
                    yield _marked(share, batch)

    @property
    def _cycle(self) -> Cycle:
        return Cycle(tuple(share.steps for share in self.tasks), self.seed)


@lru_cache(maxsize=4)
def _order(seed: int, cycle: int, counts: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the numbers of a cycle in their order."""
    return generator(seed, TURN, cycle).permutation(np.repeat(np.arange(len(counts)), counts))


def _marked(share: TaskFeed, batch: Batch) -> Batch:
    """Return a feed's batch with the objectives that learn from it."""
    return replace(batch, heads=share.heads)

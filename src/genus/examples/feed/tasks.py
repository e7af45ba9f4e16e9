"""Multi-task training with alternating feeds: each training step takes its batch from one feed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from genus.examples.keys import TURN, generator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from genus.batch import Batch
    from genus.examples.feed.feed import Feed
    from genus.examples.feed.mixture import Mixture


@dataclass(frozen=True)
class Cycle:
    """An endless sequence of the indices 0 to n - 1, in which index i occurs `counts[i]` times per cycle.

    The order within a cycle is random, keyed by (seed, purpose, index of the cycle).
    """

    counts: tuple[int, ...]
    seed: int
    purpose: int = TURN

    def member(self, place: int) -> int:
        """Return the index at a position of the sequence."""
        cycle, within = divmod(place, sum(self.counts))
        return int(_order(self.seed, self.purpose, cycle, self.counts)[within])

    def before(self, place: int) -> NDArray[np.int64]:
        """Return (n,) how often each index occurs before a position."""
        cycle, within = divmod(place, sum(self.counts))
        begun = _order(self.seed, self.purpose, cycle, self.counts)[:within]
        return cycle * np.array(self.counts) + np.bincount(begun, minlength=len(self.counts))


@dataclass(frozen=True)
class TaskFeed:
    """A feed, the objectives that learn from it, and its number of steps per round."""

    feed: Feed | Mixture
    """Of one store, or a mixture of several."""
    heads: frozenset[str]
    """Names of the objectives that learn from the feed."""
    steps: int
    """Steps per round that use this feed."""


@dataclass(frozen=True)
class TaskSchedule:
    """Task schedule: `schedule[m]` is micro-batch m; the `accumulate` micro-batches of a step are all from one feed.

    A round consists of the steps of all tasks, each task's `steps`, in a random order keyed by (seed, index of the
    round). Each feed is read in its own order without gaps, so the batch of a step is a pure function of its index, and
    an epoch of a feed contains each example once.
    """

    tasks: tuple[TaskFeed, ...]
    accumulate: int
    seed: int

    def __getitem__(self, number: int) -> Batch:
        """Return micro-batch `number`, from 0, marked with the objectives that learn from it."""
        step, within = divmod(number, self.accumulate)
        turn, before = self._cycle.member(step), self._cycle.before(step)
        return _marked(self.tasks[turn], self.tasks[turn].feed[int(before[turn]) * self.accumulate + within])

    def epoch(self, number: int) -> float:
        """Return the number of epochs before micro-batch `number`, summed over all feeds."""
        step, within = divmod(number, self.accumulate)
        taken = self._cycle.before(step) * self.accumulate
        taken[self._cycle.member(step)] += within
        return sum(share.feed.epoch(int(count)) for share, count in zip(self.tasks, taken, strict=True))

    def seen(self, number: int) -> dict[str, float]:
        """Return how often each source of text was read before micro-batch `number`, summed over all tasks."""
        step, within = divmod(number, self.accumulate)
        taken = self._cycle.before(step) * self.accumulate
        taken[self._cycle.member(step)] += within
        each = zip(self.tasks, taken.tolist(), strict=True)
        return summed(share.feed.seen(count * share.feed.micro_batch) for share, count in each)

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yield epoch 0 of each feed, with the batches of the feeds interleaved."""
        each = zip_longest(*(share.feed.evaluation_batches() for share in self.tasks))
        for batches in each:
            for share, batch in zip(self.tasks, batches, strict=True):
                if batch is not None:
                    yield _marked(share, batch)

    @property
    def _cycle(self) -> Cycle:
        return Cycle(tuple(share.steps for share in self.tasks), self.seed)


@lru_cache(maxsize=16)
def _order(seed: int, purpose: int, cycle: int, counts: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the indices of a cycle in their random order."""
    return generator(seed, purpose, cycle).permutation(np.repeat(np.arange(len(counts)), counts))


def summed(tables: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the sum of tables of numbers by name."""
    total: dict[str, float] = {}
    for table in tables:
        total |= {name: total.get(name, 0.0) + number for name, number in table.items()}
    return total


def _marked(share: TaskFeed, batch: Batch) -> Batch:
    """Return a feed's batch with the names of the objectives that learn from it."""
    return replace(batch, heads=share.heads)

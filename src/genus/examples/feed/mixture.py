"""Data mixing: several feeds mixed within every batch, at rates that depend on their sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import UsageError
from genus.examples.feed.pack import pack
from genus.examples.feed.tasks import Cycle
from genus.examples.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from genus.batch import Batch
    from genus.examples import Example
    from genus.examples.feed.feed import Feed
    from genus.examples.feed.tasks import TaskFeed

CYCLE = 4096
"""Rows per cycle. A feed has the same number of rows in every cycle, so rates are exact to 1 in 4,096."""


def mixing_rates(sizes: Sequence[int], limit: int | None = None, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return the mixing rate of each data set, in proportion to min(size, limit)^(1 / temperature).

    Temperature 1 is examples-proportional mixing, infinity is equal mixing.

    Args:
        sizes: number of examples of each data set.
        limit: K, the artificial limit on the size of a data set (None: no limit).
        temperature: T, at least 1.

    Source: Raffel et al. 2019, section 3.5.2.
    """
    counted = np.array([size if limit is None else min(size, limit) for size in sizes], dtype=np.float64)
    scaled: NDArray[np.float64] = counted ** (1 / temperature)
    return np.asarray(scaled / scaled.sum())


def rows_per_cycle(shares: NDArray[np.float64], cycle: int = CYCLE) -> tuple[int, ...]:
    """Return the integer number of rows per feed, in proportion to the shares; the sum is `cycle`, each at least 1.

    They are rounded by the method of largest remainders.
    """
    exact = shares * cycle
    rows = np.maximum(1, np.floor(exact)).astype(np.int64)
    while (missing := cycle - int(rows.sum())) != 0:
        rows[np.argmax(exact - rows) if missing > 0 else np.argmin(exact - rows + (rows == 1) * cycle)] += np.sign(
            missing
        )
    return tuple(rows.tolist())


@dataclass(frozen=True)
class Mixture:
    """Mixture of feeds: `mixture[m]` is micro-batch m, rows [m x micro_batch, (m + 1) x micro_batch) of endless rows.

    Each feed has a fixed number of rows per cycle, in a random order keyed by (seed, index of the cycle), and each feed
    is read in its own order without gaps. So a batch is a pure function of (seed, m), and an epoch of a feed contains
    each example once.
    """

    feeds: tuple[Feed, ...]
    rows: tuple[int, ...]
    """Rows per cycle of each feed."""
    seed: int
    heads: frozenset[str] | None = None
    """Names of the objectives that learn; None: all."""

    @classmethod
    def by_size(cls, tasks: Sequence[TaskFeed], seed: int, limit: int | None, temperature: float) -> Mixture:
        """Return the mixture in which the examples of each feed have the rate of `mixing_rates`.

        Rows are drawn, not examples, and a row holds several short examples or one long one; so the rate of a feed's
        rows is the rate of its examples divided by its examples per row.
        """
        feeds = tuple(task.feed for task in tasks)
        examples, rows = np.array([feed.size for feed in feeds]).T
        rates = mixing_rates(examples.tolist(), limit, temperature) * rows / examples
        heads: frozenset[str] = frozenset().union(*(task.heads for task in tasks))
        return cls(feeds, rows_per_cycle(rates / rates.sum()), seed, heads)

    def __post_init__(self) -> None:
        """Check that the feeds' rows can be in one batch.

        Raises:
            UsageError: row lengths differ between feeds, or the rows of a feed continue those of the batch before.
        """
        first = self.feeds[0]
        for feed in self.feeds:
            if isinstance(feed.examples, Streams):
                kind = type(feed.examples).__name__
                raise UsageError(
                    f"examples: {kind} reads text in order, which a mixture would interrupt; take a MultiTaskStage"
                )
            if feed.limits != first.limits:
                raise UsageError(f"a mixture needs rows of one length, got {feed.limits} and {first.limits}")

    def __getitem__(self, number: int) -> Batch:
        """Return micro-batch `number`, from 0, packed."""
        size = self.feeds[0].micro_batch
        return self._pack([self.row(row) for row in range(number * size, (number + 1) * size)])

    def row(self, number: int) -> list[Example]:
        """Return the examples of a row of the endless sequence, rows counted from 0."""
        feed = self._cycle.member(number)
        return self.feeds[feed].row(int(self._cycle.before(number)[feed]))

    def epoch(self, number: int) -> float:
        """Return the number of epochs before micro-batch `number`, summed over all feeds."""
        row = number * self.feeds[0].micro_batch
        each = zip(self.feeds, self._cycle.before(row), strict=True)
        return sum(feed.epoch_of_row(int(count)) for feed, count in each)

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yield epoch 0 of each feed, one feed after the other."""
        for feed in self.feeds:
            yield from feed.evaluation_batches()

    @property
    def _cycle(self) -> Cycle:
        return Cycle(self.rows, self.seed)

    def _pack(self, rows: list[list[Example]]) -> Batch:
        first = self.feeds[0]
        sequences = max(feed.max_sequences for feed in self.feeds)
        targets: dict[str, int] = {}
        streams: dict[str, str] = {}
        for feed in self.feeds:
            targets |= {name: max(most, targets.get(name, 0)) for name, most in feed.max_targets.items()}
            streams |= feed.target_streams
        batch = pack(rows, first.limits, first.vocabulary.pad, sequences, targets, target_streams=streams)
        return replace(batch, heads=self.heads)

"""Data mixing: several feeds mixed within every batch, at rates that depend on their sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import UsageError
from genus.examples.feed.pack import pack
from genus.examples.feed.tasks import Cycle, summed
from genus.examples.keys import SOURCE, TURN
from genus.examples.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from genus.batch import Batch
    from genus.examples import Example, ExampleFormat, Limits
    from genus.examples.feed.feed import Feed
    from genus.examples.feed.tasks import TaskFeed
    from genus.tokens.vocabulary import Vocabulary

CYCLE = 4096
"""Rows per cycle. A feed has the same number of rows in every cycle, so rates are exact to 1 in 4,096."""
FEWEST, LONGEST = 8, 1 << 20
"""Rows of a source in a cycle, which is made longer for it, up to so many rows."""


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
    each example once. Feeds are tasks of one text, or sources of text of one task, and may be mixtures themselves.
    """

    feeds: tuple[Feed | Mixture, ...]
    rows: tuple[int, ...]
    """Rows per cycle of each feed."""
    seed: int
    heads: frozenset[str] | None = None
    """Names of the objectives that learn; None: all."""
    sources: tuple[str, ...] = ()
    """Names of the feeds as sources of text; none, if they are tasks."""

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

    @classmethod
    def of_sources(cls, feeds: Mapping[str, Feed], shares: Mapping[str, float], seed: int) -> Mixture:
        """Return the mixture in which the tokens of each feed have its share.

        The rate of a feed's rows is its share divided by its tokens per row.
        """
        rates = np.array([shares[name] / feed.tokens_per_row for name, feed in feeds.items()])
        rates, cycle = rates / rates.sum(), CYCLE
        while rates.min() * cycle < FEWEST and cycle < LONGEST:
            cycle *= 2
        return cls((*feeds.values(),), rows_per_cycle(rates, cycle), seed, sources=(*feeds,))

    def __post_init__(self) -> None:
        """Check that the feeds' rows can be in one batch.

        Raises:
            UsageError: row lengths differ between feeds, or the rows of a feed continue those of the batch before.
        """
        for feed in self.feeds:
            if isinstance(feed.examples, Streams):
                kind = type(feed.examples).__name__
                instead = "give it one source of text" if self.sources else "take a MultiTaskStage"
                raise UsageError(f"examples: {kind} reads text in order, which a mixture would interrupt; {instead}")
            if feed.limits != self.limits:
                raise UsageError(f"a mixture needs rows of one length, got {feed.limits} and {self.limits}")

    def __getitem__(self, number: int) -> Batch:
        """Return micro-batch `number`, from 0, packed."""
        size = self.micro_batch
        return self._pack([self.row(row) for row in range(number * size, (number + 1) * size)])

    def row(self, number: int) -> list[Example]:
        """Return the examples of a row of the endless sequence, rows counted from 0."""
        feed = self._cycle.member(number)
        return self.feeds[feed].row(int(self._cycle.before(number)[feed]))

    def epoch(self, number: int) -> float:
        """Return the number of epochs before micro-batch `number`."""
        return self.epoch_of_row(number * self.micro_batch)

    def epoch_of_row(self, number: int) -> float:
        """Return the number of epochs before a row: summed over tasks; of sources, the mean by their rows."""
        each = zip(self.feeds, self._cycle.before(number), strict=True)
        passed = [feed.epoch_of_row(int(count)) for feed, count in each]
        if not self.sources:
            return sum(passed)
        return float(np.average(passed, weights=[feed.size[1] for feed in self.feeds]))

    def seen(self, row: int) -> dict[str, float]:
        """Return how often each source was read before a row, by the rows of epoch 0; no block is planned for it."""
        counts = self._cycle.before(row).tolist()
        if self.sources:
            each = zip(self.sources, self.feeds, counts, strict=True)
            return {name: count / feed.size[1] for name, feed, count in each}
        return summed(feed.seen(count) for feed, count in zip(self.feeds, counts, strict=True))

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yield epoch 0 of each feed, one feed after the other."""
        for feed in self.feeds:
            yield from feed.evaluation_batches()

    @property
    def examples(self) -> ExampleFormat:
        """The format of the first feed."""
        return self.feeds[0].examples

    @property
    def limits(self) -> Limits:
        """Row length by stream, the same for all feeds."""
        return self.feeds[0].limits

    @property
    def micro_batch(self) -> int:
        """Rows of a micro-batch."""
        return self.feeds[0].micro_batch

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of all feeds."""
        return self.feeds[0].vocabulary

    @property
    def size(self) -> tuple[int, int]:
        """The examples and the rows of epoch 0 of all feeds."""
        examples, rows = np.array([feed.size for feed in self.feeds]).sum(0).tolist()
        return examples, rows

    @property
    def max_sequences(self) -> int:
        """N of a micro-batch of any feed."""
        return max(feed.max_sequences for feed in self.feeds)

    @property
    def max_targets(self) -> dict[str, int]:
        """The most targets of each name in a micro-batch of any feed."""
        targets: dict[str, int] = {}
        for feed in self.feeds:
            targets |= {name: max(most, targets.get(name, 0)) for name, most in feed.max_targets.items()}
        return targets

    @property
    def target_streams(self) -> dict[str, str]:
        """The stream of the targets of each name."""
        return {name: stream for feed in self.feeds for name, stream in feed.target_streams.items()}

    @property
    def _cycle(self) -> Cycle:
        return Cycle(self.rows, self.seed, SOURCE if self.sources else TURN)

    def _pack(self, rows: list[list[Example]]) -> Batch:
        pad, most, streams = self.vocabulary.pad, self.max_sequences, self.target_streams
        return replace(pack(rows, self.limits, pad, most, self.max_targets, target_streams=streams), heads=self.heads)

"""The data feed of a training stage: micro-batches by index, from an endless sequence of epochs."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from genus.examples.feed.bins import BLOCK, PackedRows, bin_pack, sequences_per_row
from genus.examples.feed.pack import pack
from genus.examples.keys import CORRUPT, FILL, ORDER, generator
from genus.examples.streams import Streams, places, row_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from genus.batch import Batch
    from genus.examples import EpochPlan, Example, ExampleFormat, Lengths, Limits
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary

T = TypeVar("T")

KEPT = 2
"""Epochs cached in memory: a micro-batch may span the end of one and the start of the next."""


class ExampleTransform(Protocol):
    """An objective's transform of examples: the corruption, the lengths after it and the number of targets."""

    def raw_limits(self, limits: Limits) -> Limits:
        """Return the length limits before `prepare_example` that keep the lengths after it within `limits`."""

    def lengths(self, raw: Lengths) -> Lengths:
        """Return the lengths (E,) after `prepare_example`, by stream, or upper bounds, given the lengths `raw`."""

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example as the model gets it, with its targets added."""

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return the static number of targets by name, for a batch of that many tokens and sequences."""


class Feed:
    """Data feed: `feed[m]` is micro-batch m, rows [m x micro_batch, (m + 1) x micro_batch) of the concatenated epochs.

    It is a pure function of the arguments and m, so any process can request micro-batches in any order.

    An epoch is a version of the data in its own order. The version is the epoch number, modulo `dupe_factor` if the
    format has one. The key of the plan and of the bin packing is (seed, version), that of a corruption also has the
    example's index; the key of the row order is (seed, epoch). All versions share the plan and the rows of a format
    that is not stochastic. Formats that are `Streams` define the row order themselves.

    Versions differ slightly in their number of rows, so the first request for a late micro-batch plans every version
    before it. Forked processes share the plan made here, and make later ones themselves.
    """

    def __init__(
        self,
        store: Store,
        vocabulary: Vocabulary,
        examples: ExampleFormat,
        corruptions: Sequence[ExampleTransform],
        *,
        limits: Limits,
        micro_batch: int,
        seed: int,
        batch: int | None = None,
        task: int | None = None,
    ) -> None:
        """Plan the first epoch, and derive the static shapes from it.

        Args:
            store: the tokenized corpus.
            vocabulary: the vocabulary of its tokens.
            examples: the example format.
            corruptions: transforms of each example, applied in this order.
            limits: row length in tokens, by stream.
            micro_batch: rows per micro-batch.
            seed: seed of all random draws.
            batch: rows per batch, which is the number of streams of a `Streams` format; None: one micro-batch.
            task: index of the task of all examples.

        Raises:
            GenusError: the corpus is empty, or the format cannot be cut from it.
        """
        self.store, self.vocabulary, self.examples, self.corruptions = store, vocabulary, examples, tuple(corruptions)
        self.limits, self.micro_batch, self.seed = limits, micro_batch, seed
        self.raw_limits = limits
        for corruption in reversed(self.corruptions):
            self.raw_limits = corruption.raw_limits(self.raw_limits)
        self.streams, self.task = batch or micro_batch, task
        plan, order = self._cut(0)
        if isinstance(examples, Streams):
            limit = int(np.diff(examples.rows(plan, self.raw_limits["tokens"]).offsets).max())
        else:
            first = {stream: lengths[order[:BLOCK]] for stream, lengths in self._lengths(plan).items()}
            limit = sequences_per_row(first, limits)
        self.sequences_per_row = limit
        self.max_sequences = micro_batch * (limit + 1)
        """N: the real sequences of each row, and one entry of padding per row."""
        self.max_targets: dict[str, int] = {}
        for corruption in self.corruptions:
            self.max_targets |= corruption.max_targets(micro_batch * limits["tokens"], micro_batch * limit)
        self._plans = {0: self._fill(plan, order)}
        self._orders: dict[int, NDArray[np.int64]] = {}
        self._row_counts: dict[int, int] = {}
        self._first_rows = [0]

    def __getitem__(self, number: int) -> Batch:
        """Return micro-batch `number`, from 0, packed."""
        first = number * self.micro_batch
        return self._pack([self.row(row) for row in range(first, first + self.micro_batch)])

    def row(self, number: int) -> list[Example]:
        """Return the examples of a row of the endless sequence, rows counted from 0."""
        epoch, place = self._locate(number)
        return self._row(epoch, place, self.streams)

    def epoch(self, number: int) -> float:
        """Return the number of epochs, with fraction, before micro-batch `number`."""
        return self.epoch_of_row(number * self.micro_batch)

    def epoch_of_row(self, number: int) -> float:
        """Return the number of epochs, with fraction, before a row of the endless sequence."""
        epoch, place = self._locate(number)
        return epoch + place / self._rows(epoch)

    @property
    def size(self) -> tuple[int, int]:
        """Number of examples and number of rows of epoch 0."""
        plan, rows = self._planned(0)
        return len(plan), len(rows)

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yield epoch 0 once, the same at every call; the last batch is filled up with rows of padding.

        The number of streams is the number of rows per micro-batch, so each batch continues the one before.
        """
        total, streams = self._rows(0, self.micro_batch), self.micro_batch
        for first in range(0, total, streams):
            rows = [self._row(0, row, streams) for row in range(first, min(first + streams, total))]
            yield self._pack([*rows, *[[]] * (streams - len(rows))])

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling without plans, which may be large; they are remade on demand."""
        return self.__dict__ | {"_plans": {}, "_orders": {}}

    def _pack(self, rows: list[list[Example]]) -> Batch:
        return pack(rows, self.limits, self.vocabulary.pad, self.max_sequences, self.max_targets)

    def _row(self, epoch: int, place: int, streams: int) -> list[Example]:
        """Return the corrupted examples of the row at a position in the epoch's row order."""
        plan, rows = self._planned(epoch)
        if isinstance(self.examples, Streams):
            row = row_at(place, len(rows), streams)
        else:
            order = _kept(self._orders, epoch, lambda: generator(self.seed, ORDER, epoch).permutation(len(rows)))
            row = int(order[place])
        found = () if row is None else rows[row].tolist()
        examples = [self._example(plan, self._version(epoch), index) for index in found]
        if examples and place < streams:  # first row of its stream: it continues no text
            for sequence in examples[0].streams.values():
                sequence.continues = False
        return examples

    def _example(self, plan: EpochPlan, version: int, index: int) -> Example:
        example = self.examples.read(plan, index, self.store, self.vocabulary)
        rng = generator(self.seed, CORRUPT, version, index)
        for corruption in self.corruptions:
            example = corruption.prepare_example(example, self.vocabulary, rng)
        for sequence in example.streams.values():
            sequence.task = self.task
        return example

    def _locate(self, row: int) -> tuple[int, int]:
        """Return the epoch of a row of the endless sequence, and the row's position in the epoch."""
        while self._first_rows[-1] <= row:
            self._first_rows.append(self._first_rows[-1] + self._rows(len(self._first_rows) - 1))
        epoch = bisect_right(self._first_rows, row) - 1
        return epoch, row - self._first_rows[epoch]

    def _rows(self, epoch: int, streams: int | None = None) -> int:
        """Return the number of rows of an epoch, including padding rows of streams that end before others."""
        version = self._plan_version(epoch)
        if version not in self._row_counts:
            self._row_counts[version] = len(self._planned(epoch)[1])
        rows = self._row_counts[version]
        return places(rows, streams or self.streams) if isinstance(self.examples, Streams) else rows

    def _version(self, epoch: int) -> int:
        return epoch % self.examples.dupe_factor if self.examples.dupe_factor else epoch

    def _plan_version(self, epoch: int) -> int:
        return self._version(epoch) if self.examples.stochastic else 0

    def _planned(self, epoch: int) -> tuple[EpochPlan, PackedRows]:
        version = self._plan_version(epoch)
        return _kept(self._plans, version, lambda: self._fill(*self._cut(version)))

    def _cut(self, version: int) -> tuple[EpochPlan, NDArray[np.int64]]:
        """Return the plan of a version, and the random order in which its examples are packed."""
        plan = self.examples.plan(self.store, self.vocabulary, self.raw_limits, self.seed, version)
        return plan, generator(self.seed, FILL, version).permutation(len(plan))

    def _fill(self, plan: EpochPlan, order: NDArray[np.int64]) -> tuple[EpochPlan, PackedRows]:
        limit = self.sequences_per_row
        if isinstance(self.examples, Streams):
            return plan, self.examples.rows(plan, self.raw_limits["tokens"], limit)
        return plan, bin_pack(self._lengths(plan), self.limits, order=order, max_sequences=limit)

    def _lengths(self, plan: EpochPlan) -> Lengths:
        """Return the lengths (E,) of the plan's examples after all corruptions, by stream."""
        lengths = plan.lengths
        for corruption in self.corruptions:
            lengths = corruption.lengths(lengths)
        return lengths


def _kept(cache: dict[int, T], key: int, make: Callable[[], T]) -> T:
    """Return the cached value of a key, or make it; the cache keeps the `KEPT` latest values."""
    if key not in cache:
        while len(cache) >= KEPT:
            del cache[next(iter(cache))]
        cache[key] = make()
    return cache[key]

"""The feed of a stage of training: micro-batches by number, out of an endless sequence of epochs."""

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
"""Epochs held in memory: a micro-batch may span the end of one and the start of the next."""


class ExampleTransform(Protocol):
    """What an objective does to an example, how long that makes it, and how many targets come of it."""

    def raw_limits(self, limits: Limits) -> Limits:
        """Return the limits of examples before `prepare_example`, for which the lengths after it keep these limits."""

    def lengths(self, raw: Lengths) -> Lengths:
        """Return lengths (E,) after `prepare_example`, by stream, or upper bounds, given those of `raw`."""

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example as the model shall see it, with its targets."""

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return the static number of targets by name."""


class Feed:
    """`feed[m]` is micro-batch m: rows [m x micro_batch, (m + 1) x micro_batch) of all epochs laid end to end.

    It is a pure function of the arguments and m, so it does not matter which process asks for what in which order.

    An epoch is a version of the data in an order of its own. The version is the epoch's number, modulo `copies` where
    the format has copies. By (seed, version) are keyed the plan, the choice of examples that share a row, and, with the
    number of the example, its corruption; by (seed, epoch) the order of the rows. A plan that is not drawn, and the
    rows it fills, are one for all versions. Formats that are `Streams` give rows an order themselves.

    Versions differ a little in their number of rows, so the first request for a late micro-batch makes every version
    before it. Processes forked from this one share the plan made here, and make later ones themselves.
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
        """Plan the first epoch, and fix the static shapes by it.

        Args:
            store: the corpus.
            vocabulary: of its tokens.
            examples: the format.
            corruptions: what is done to each example, one after the other.
            limits: row length, by stream.
            micro_batch: rows of a micro-batch.
            seed: of all draws.
            batch: rows of a batch, which are its streams where the format has streams; None: one micro-batch.
            task: number of the task that all examples belong to.

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
        """N: as many live sequences in each row, and a dead one."""
        self.max_targets: dict[str, int] = {}
        for corruption in self.corruptions:
            self.max_targets |= corruption.max_targets(micro_batch * limits["tokens"], micro_batch * limit)
        self._plans = {0: self._fill(plan, order)}
        self._orders: dict[int, NDArray[np.int64]] = {}
        self._row_counts: dict[int, int] = {}
        self._first_rows = [0]

    def __getitem__(self, number: int) -> Batch:
        """Return micro-batch `number`, counted from 0."""
        first = number * self.micro_batch
        return self._pack([self.row(row) for row in range(first, first + self.micro_batch)])

    def row(self, number: int) -> list[Example]:
        """Return the examples of a row of the endless sequence, counted from 0."""
        epoch, place = self._locate(number)
        return self._row(epoch, place, self.streams)

    def epoch(self, number: int) -> float:
        """Return how many epochs have passed before micro-batch `number`."""
        return self.epoch_of_row(number * self.micro_batch)

    def epoch_of_row(self, number: int) -> float:
        """Return how many epochs have passed before a row of the endless sequence."""
        epoch, place = self._locate(number)
        return epoch + place / self._rows(epoch)

    @property
    def size(self) -> tuple[int, int]:
        """The examples and the rows of epoch 0."""
        plan, rows = self._planned(0)
        return len(plan), len(rows)

    def evaluation_batches(self) -> Iterator[Batch]:
        """Return epoch 0 once, the same at every call; the last batch is filled up with dead rows.

        Streams are as many as a micro-batch has rows, so that each batch goes on from the one before.
        """
        total, streams = self._rows(0, self.micro_batch), self.micro_batch
        for first in range(0, total, streams):
            rows = [self._row(0, row, streams) for row in range(first, min(first + streams, total))]
            yield self._pack([*rows, *[[]] * (streams - len(rows))])

    def __getstate__(self) -> dict[str, Any]:
        """Leave the plans behind, which may be large; they are made again where they are needed."""
        return self.__dict__ | {"_plans": {}, "_orders": {}}

    def _pack(self, rows: list[list[Example]]) -> Batch:
        return pack(rows, self.limits, self.vocabulary.pad, self.max_sequences, self.max_targets)

    def _row(self, epoch: int, place: int, streams: int) -> list[Example]:
        """Return the examples of a row, by its place in the order of the epoch, corrupted."""
        plan, rows = self._planned(epoch)
        if isinstance(self.examples, Streams):
            row = row_at(place, len(rows), streams)
        else:
            order = _kept(self._orders, epoch, lambda: generator(self.seed, ORDER, epoch).permutation(len(rows)))
            row = int(order[place])
        found = () if row is None else rows[row].tolist()
        examples = [self._example(plan, self._version(epoch), index) for index in found]
        if examples and place < streams:  # its stream begins here, wherever the text before it went
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
        """Return the epoch of a row of the endless sequence, and the row's place in it."""
        while self._first_rows[-1] <= row:
            self._first_rows.append(self._first_rows[-1] + self._rows(len(self._first_rows) - 1))
        epoch = bisect_right(self._first_rows, row) - 1
        return epoch, row - self._first_rows[epoch]

    def _rows(self, epoch: int, streams: int | None = None) -> int:
        """Return the number of rows of an epoch, those included that only fill up streams that end before others."""
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
        """Return the plan of a version, and the order in which its examples are considered for rows."""
        plan = self.examples.plan(self.store, self.vocabulary, self.raw_limits, self.seed, version)
        return plan, generator(self.seed, FILL, version).permutation(len(plan))

    def _fill(self, plan: EpochPlan, order: NDArray[np.int64]) -> tuple[EpochPlan, PackedRows]:
        limit = self.sequences_per_row
        if isinstance(self.examples, Streams):
            return plan, self.examples.rows(plan, self.raw_limits["tokens"], limit)
        return plan, bin_pack(self._lengths(plan), self.limits, order=order, max_sequences=limit)

    def _lengths(self, plan: EpochPlan) -> Lengths:
        """Return the lengths (E,) of the plan's examples, by stream, after all corruptions."""
        lengths = plan.lengths
        for corruption in self.corruptions:
            lengths = corruption.lengths(lengths)
        return lengths


def _kept(cache: dict[int, T], key: int, make: Callable[[], T]) -> T:
    """Return the value of a key, made at the first request; of the others, the latest are kept."""
    if key not in cache:
        while len(cache) >= KEPT:
            del cache[next(iter(cache))]
        cache[key] = make()
    return cache[key]

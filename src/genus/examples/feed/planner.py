"""Plans of the blocks of a store: each made when a row of it is asked for, the latest kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from genus.errors import GenusError
from genus.examples.blocks import cut, whole
from genus.examples.feed.bins import BLOCK, bin_pack, sequences_per_row
from genus.examples.keys import BLOCKS, FILL, generator, joint
from genus.examples.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from genus.examples import EpochPlan, Example, ExampleFormat, Lengths, Limits
    from genus.examples.feed.bins import PackedRows
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Frames, Vocabulary

    Key = tuple[int, int]

T = TypeVar("T")
K = TypeVar("K")

WINDOW = 8
"""Blocks whose rows are shuffled together. Part of what the order is a function of."""


class ExampleTransform(Protocol):
    """What an objective does to an example, how long that makes it, and how many targets come of it."""

    @property
    def stream(self) -> str:
        """The stream in which its targets lie."""

    def raw_limits(self, limits: Limits, frames: Frames) -> Limits:
        """Return the limits of examples before `prepare_example`, for which the lengths after it keep these limits."""

    def lengths(self, raw: Lengths, frames: Frames) -> Lengths:
        """Return lengths (E,) after `prepare_example`, by stream, or upper bounds, given those of `raw`."""

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example as the model shall see it, with its targets."""

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return the static number of targets by name."""


class Planner:
    """Plans and rows of each block of a store in each version of the data.

    A plan is a pure function of (format, store, block, limits, seed, version). A plan that is not drawn, and the rows
    it fills, are one for all versions. A format that is `Streams` has the whole store as its one block.
    """

    def __init__(
        self,
        store: Store,
        vocabulary: Vocabulary,
        examples: ExampleFormat,
        corruptions: Sequence[ExampleTransform],
        limits: Limits,
        seed: int,
    ) -> None:
        """Plan the first block of epoch 0, and fix by it what all blocks keep to.

        Raises:
            GenusError: the corpus is empty, or the format cannot be cut from it.
        """
        self.store, self.vocabulary, self.examples, self.corruptions = store, vocabulary, examples, tuple(corruptions)
        self.limits, self.raw_limits, self.seed = limits, limits, seed
        for corruption in reversed(self.corruptions):
            self.raw_limits = corruption.raw_limits(self.raw_limits, vocabulary)
        self.blocks = (whole(store),) if isinstance(examples, Streams) else cut(store)
        self.sizes = np.array([block.sentences for block in self.blocks])
        """(blocks,) sentences of each block, by which shares of the corpus are measured."""
        self._most = 2 * min(WINDOW, len(self.blocks))  # of one window, and of the next
        self._planned: dict[Key, tuple[EpochPlan, PackedRows]] = {}
        self._counts: dict[Key, int] = {}
        seen, block, plan, order = self._first()
        self.sequences_per_row = self._limit(plan, order)
        """The most sequences of a row, in every block."""
        self._planned[block, 0] = self._fill(plan, order)
        self._first_block = block
        share = int(self.sizes.sum()) / seen
        self.size = round(len(plan) * share), round(self.rows(block, 0) * share)
        """The examples and the rows of epoch 0: counted where it is one block, else estimated from the first."""

    def __call__(self, block: int, version: int) -> tuple[EpochPlan, PackedRows]:
        """Return the plan and the rows of a block in a version of the data."""
        key = block, version if self.examples.stochastic else 0
        planned = kept(self._planned, key, self._most, lambda: self._fill(*self._cut(*key)))
        self._counts[key] = len(planned[1])
        return planned

    def rows(self, block: int, version: int) -> int:
        """Return the number of rows of a block, which is remembered when its plan is not."""
        key = block, version if self.examples.stochastic else 0
        return self._counts[key] if key in self._counts else len(self(*key)[1])

    @property
    def tokens_per_row(self) -> float:
        """Mean tokens of a row of the stream `tokens`, or an upper bound, in the block that fixed the shapes."""
        plan, rows = self(self._first_block, 0)
        return float(self._lengths(plan)["tokens"].sum()) / len(rows)

    def version(self, epoch: int) -> int:
        """Return which version of the data an epoch is."""
        return epoch % self.examples.dupe_factor if self.examples.dupe_factor else epoch

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the numbers of the blocks in their order in an epoch."""
        return generator(self.seed, BLOCKS, epoch).permutation(len(self.blocks))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the plans behind, which may be large; they are made again where they are needed."""
        return self.__dict__ | {"_planned": {}}

    def _first(self) -> tuple[int, int, EpochPlan, NDArray[np.int64]]:
        """Return the first block that has an example, with its plan, and the sentences looked at up to its end."""
        seen = 0
        for block in self.order(0).tolist():
            plan, order = self._cut(block, 0)
            seen += self.blocks[block].sentences
            if len(plan):
                return seen, block, plan, order
        raise GenusError(self.examples.nothing.format(format=type(self.examples).__name__))

    def _limit(self, plan: EpochPlan, order: NDArray[np.int64]) -> int:
        if isinstance(self.examples, Streams):
            return int(np.diff(self.examples.rows(plan, self.raw_limits["tokens"]).offsets).max())
        first = {stream: lengths[order[:BLOCK]] for stream, lengths in self._lengths(plan).items()}
        return sequences_per_row(first, self.limits)

    def _cut(self, block: int, version: int) -> tuple[EpochPlan, NDArray[np.int64]]:
        """Return the plan of a block, and the order in which its examples are considered for rows."""
        plan = self.examples.plan(self.blocks[block], self.store, self.vocabulary, self.raw_limits, self.seed, version)
        return plan, generator(self.seed, FILL, joint(version, block)).permutation(len(plan))

    def _fill(self, plan: EpochPlan, order: NDArray[np.int64]) -> tuple[EpochPlan, PackedRows]:
        limit = self.sequences_per_row
        if isinstance(self.examples, Streams):
            return plan, self.examples.rows(plan, self.raw_limits["tokens"], limit)
        return plan, bin_pack(self._lengths(plan), self.limits, order=order, max_sequences=limit)

    def _lengths(self, plan: EpochPlan) -> Lengths:
        """Return the lengths (E,) of the plan's examples, by stream, after all corruptions."""
        lengths = plan.lengths
        for corruption in self.corruptions:
            lengths = corruption.lengths(lengths, self.vocabulary)
        return lengths


def kept(cache: dict[K, T], key: K, most: int, make: Callable[[], T]) -> T:
    """Return the value of a key, made at the first request; of the others, the latest `most` - 1 are kept."""
    if key not in cache:
        while len(cache) >= most:
            del cache[next(iter(cache))]
        cache[key] = make()
    return cache[key]

"""Batches of a task: shuffled for training, sorted by length for inference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from genus.examples.feed.bins import bin_pack
from genus.examples.feed.pack import pack
from genus.examples.keys import ORDER, generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from genus.batch import Batch
    from genus.tasks.encode import EncodedTexts

TOKENS = 8192
"""Token positions of an inference batch: enough to keep a processor busy, few enough for its memory."""
SHAPES = 8
"""Maximum number of shapes of compiled micro-batches: PyTorch's limit of recompilations."""


@dataclass(frozen=True)
class Shuffled:
    """Shuffled micro-batches: number m holds examples [m x size, (m + 1) x size) of the endless sequence of epochs.

    Each epoch has its own permutation. Examples are bin-packed into rows: most are far shorter than the longest.
    """

    encoded: EncodedTexts
    size: int
    """Examples in a micro-batch."""
    seed: int
    few_shapes: bool = False
    """Round rows, sequences and targets up, so that code compiled for static shapes meets few of them."""

    def __getitem__(self, number: int) -> Batch:
        """Return a micro-batch, which depends on seed and number only."""
        places = np.arange(number * self.size, (number + 1) * self.size)
        epochs, within = np.divmod(places, len(self.encoded))
        order = [_order(self.seed, epoch, len(self.encoded)) for epoch in epochs.tolist()]
        chosen = np.array([numbers[place] for numbers, place in zip(order, within.tolist(), strict=True)])
        length = int(self.encoded.lengths.max())
        rows = bin_pack({"tokens": self.encoded.lengths[chosen]}, {"tokens": length})
        examples = [[self.encoded.example(i) for i in chosen[row].tolist()] for row in rows]
        if not self.few_shapes:
            return pack(examples, length, self.encoded.vocabulary.pad, streams=False)
        examples += [[]] * (-len(examples) % max(1, self.size // SHAPES))
        targets = {self.encoded.target: self.encoded.max_targets(self.size, len(examples) * length)}
        return pack(examples, length, self.encoded.vocabulary.pad, len(examples) + self.size, targets, streams=False)

    def epoch(self, number: int) -> float:
        """Return the number of epochs, with fraction, after that many micro-batches."""
        return number * self.size / len(self.encoded)


def by_length(encoded: EncodedTexts) -> Iterator[tuple[NDArray[np.int64], Batch]]:
    """Yield all examples in batches, longest first: (indices of the examples, batch)."""
    order = np.argsort(-encoded.lengths, kind="stable")
    while len(order):
        longest = int(encoded.lengths[order[0]])
        chosen, order = np.split(order, [max(1, TOKENS // longest)])
        rows = [[encoded.example(i)] for i in chosen.tolist()]
        yield chosen, pack(rows, longest, encoded.vocabulary.pad, streams=False)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    """Return the permutation of the examples in an epoch."""
    return generator(seed, ORDER, epoch, 0).permutation(size)

"""Batches of a task: shuffled for training, sorted by length for answers."""

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
"""Cells of a batch of answers: enough to keep a processor busy, little enough for its memory."""


@dataclass(frozen=True)
class Shuffled:
    """Micro-batch m holds examples [m x size, (m + 1) x size) of the endless sequence of epochs.

    Each epoch has an order of its own. The examples of a micro-batch share rows: most are far shorter than the longest.
    """

    encoded: EncodedTexts
    size: int
    """Examples in a micro-batch."""
    seed: int

    def __getitem__(self, number: int) -> Batch:
        """Return a micro-batch, a pure function of (seed, number)."""
        places = np.arange(number * self.size, (number + 1) * self.size)
        epochs, within = np.divmod(places, len(self.encoded))
        order = [_order(self.seed, epoch, len(self.encoded)) for epoch in epochs.tolist()]
        chosen = np.array([numbers[place] for numbers, place in zip(order, within.tolist(), strict=True)])
        length = int(self.encoded.lengths.max())
        rows = bin_pack({"tokens": self.encoded.lengths[chosen]}, {"tokens": length})
        examples = [[self.encoded.example(i) for i in chosen[row].tolist()] for row in rows]
        return pack(examples, length, self.encoded.vocabulary.pad, streams=False)

    def epoch(self, number: int) -> float:
        """Return how many passes over the examples are made after that many micro-batches."""
        return number * self.size / len(self.encoded)


def by_length(encoded: EncodedTexts) -> Iterator[tuple[NDArray[np.int64], Batch]]:
    """Yield all examples in batches, the longest first, with the number of each example."""
    order = np.argsort(-encoded.lengths, kind="stable")
    while len(order):
        longest = int(encoded.lengths[order[0]])
        chosen, order = np.split(order, [max(1, TOKENS // longest)])
        rows = [[encoded.example(i)] for i in chosen.tolist()]
        yield chosen, pack(rows, longest, encoded.vocabulary.pad, streams=False)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    """Return the order of the examples in an epoch."""
    return generator(seed, ORDER, epoch, 0).permutation(size)

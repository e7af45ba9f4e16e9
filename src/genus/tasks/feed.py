"""Batches of a task: shuffled for training, sorted by length for inference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from genus.examples.feed.bins import bin_pack
from genus.examples.feed.pack import pack
from genus.examples.keys import CORRUPT, ORDER, generator
from genus.objectives.supervised.taught import TAUGHT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from genus.batch import Batch
    from genus.examples import Example
    from genus.examples.feed.planner import ExampleTransform
    from genus.tasks.encode import EncodedTexts

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
    beside: tuple[ExampleTransform, ...] = ()
    """Objectives that learn beside the task's, each of which adds its targets."""
    taught: NDArray[np.float32] | None = None
    """(M, V) a teacher's outputs for the targets, NaN where it has none (`Taught`); None: there is no teacher."""
    few_shapes: bool = False
    """Round rows, sequences and targets up, so that code compiled for static shapes meets few of them."""

    def __getitem__(self, number: int) -> Batch:
        """Return a micro-batch, which depends on seed and number only."""
        places = np.arange(number * self.size, (number + 1) * self.size)
        epochs, within = np.divmod(places, len(self.encoded))
        order = [_order(self.seed, epoch, len(self.encoded)) for epoch in epochs.tolist()]
        chosen = np.array([numbers[place] for numbers, place in zip(order, within.tolist(), strict=True)])
        encoded, sequences = self.encoded, self.encoded.sequences(chosen)
        limits = {stream: int(lengths.max()) for stream, lengths in encoded.stream_lengths.items()}
        lengths = {stream: lengths[sequences] for stream, lengths in encoded.stream_lengths.items()}
        rows = bin_pack(lengths, limits)
        examples = [[self._example(i) for i in sequences[row].tolist()] for row in rows]
        if not self.few_shapes:
            return gathered(encoded, pack(examples, limits, encoded.vocabulary.pad, streams=False), chosen)
        examples += [[]] * (-len(examples) % max(1, self.size // SHAPES))
        most, cells = self.size * encoded.most, len(examples) * limits["tokens"]
        targets = {encoded.target: encoded.max_targets(most, cells)}
        for transform in self.beside:
            targets |= transform.max_targets(cells, most)
        batch = pack(examples, limits, encoded.vocabulary.pad, len(examples) + most, targets, streams=False)
        return gathered(encoded, batch, chosen)

    def _example(self, index: int) -> Example:
        """Return a sequence with the targets of all objectives."""
        example = self.encoded.example(index)
        if self.taught is not None:
            where, _ = example.targets[self.encoded.target]
            answers = self.taught[self.encoded.target_slices(np.array([index]))]
            example = replace(example, targets={**example.targets, TAUGHT: (where, answers)})
        for transform in self.beside:
            example = transform.prepare_example(
                example, self.encoded.vocabulary, generator(self.seed, CORRUPT, 0, index)
            )
        return example

    def epoch(self, number: int) -> float:
        """Return the number of epochs, with fraction, after that many micro-batches."""
        return number * self.size / len(self.encoded)


def by_length(encoded: EncodedTexts) -> Iterator[tuple[NDArray[np.int64], Batch]]:
    """Yield all examples in batches, longest first: (indices of the examples, batch)."""
    lengths = encoded.longest
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        longest = int(lengths[order[0]])
        chosen, order = np.split(order, [max(1, encoded.tokens_at_once // (longest * encoded.most))])
        yield chosen, batch_of(encoded, chosen)


def batch_of(encoded: EncodedTexts, chosen: NDArray[np.int64]) -> Batch:
    """Return the batch of these examples, each of whose sequences has a row of its own."""
    sequences = encoded.sequences(chosen)
    limits = {stream: int(one[sequences].max()) for stream, one in encoded.stream_lengths.items()}
    rows = [[encoded.example(i)] for i in sequences.tolist()]
    return gathered(encoded, pack(rows, limits, encoded.vocabulary.pad, streams=False), chosen)


def gathered(encoded: EncodedTexts, batch: Batch, chosen: NDArray[np.int64]) -> Batch:
    """Return the batch of the chosen examples' sequences with one target per example."""
    own = encoded.gathered(batch.targets[encoded.target], chosen)
    return replace(batch, targets={**batch.targets, encoded.target: own})


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    """Return the permutation of the examples in an epoch."""
    return generator(seed, ORDER, epoch, 0).permutation(size)

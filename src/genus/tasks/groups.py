"""Examples of several sequences: pairs that are read in both orders, and questions with their choices.

Legend: N examples, K sequences of an example at most, M targets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from genus.batch import Targets
from genus.tasks.encode import EncodedTexts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Example


def both_orders(pairs: EncodedTexts) -> EncodedGroups:
    """Return pairs as examples of two sequences: each pair, and the same pair with its texts exchanged."""
    texts = [order for pair in pairs.texts for order in (pair, pair[::-1])]
    offsets = np.arange(0, len(texts) + 1, 2)
    return EncodedGroups(
        texts, pairs.labels, pairs.target, pairs.vocabulary, pairs.max_length, pairs.cut, offsets,
        repeated=pairs.repeated,
    )  # fmt: skip


@dataclass(frozen=True)
class EncodedGroups(EncodedTexts):
    """Tokenized groups of sequences: example n is sequences [offsets[n], offsets[n + 1]) of `texts`.

    The sequences of an example lie anywhere in its batch. Its target has the summary token of each.
    """

    offsets: NDArray[np.int64]
    """(N + 1,) index of each example's first sequence."""

    def __len__(self) -> int:
        """Return the number of examples N."""
        return len(self.offsets) - 1

    @property
    def most(self) -> int:
        """K, the largest number of sequences of an example."""
        return int(np.diff(self.offsets).max(initial=1))

    def sequences(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the indices of the sequences of the chosen examples, concatenated."""
        return np.concatenate([chosen[:0], *(np.arange(*self.offsets[i : i + 2]) for i in chosen)])

    @cached_property
    def longest(self) -> NDArray[np.int64]:
        """(N,) length of each example's longest sequence."""
        return np.maximum.reduceat(self.lengths, self.offsets[:-1])

    def example(self, index: int) -> Example:
        """Return one sequence, whose target has its index in the place of a label."""
        example = super().example(index)
        where, _ = example.targets[self.target]
        return replace(example, targets={self.target: (where, np.array([index]))})

    def gathered(self, targets: Targets, chosen: NDArray[np.int64]) -> Targets:
        """Return one target per example: the tokens (M, K) of its sequences, and its label."""
        place = dict(zip(targets.label.tolist(), targets.index.tolist(), strict=True))
        index = torch.full((len(chosen), self.most), -1)
        for row, one in enumerate(chosen.tolist()):
            tokens = [place[number] for number in range(*self.offsets[one : one + 2].tolist())]
            index[row, : len(tokens)] = torch.tensor(tokens)
        return Targets(index, torch.from_numpy(self.labels[chosen]))

    def rows_with(self, marked: NDArray[np.bool_]) -> int:
        """Return the number of examples of which any sequence is marked."""
        return int(np.logical_or.reduceat(marked, self.offsets[:-1]).sum())

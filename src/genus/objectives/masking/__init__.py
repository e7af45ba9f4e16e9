"""Masking slot: which tokens are masked, and what replaces them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.part import Part, Share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Sequence
    from genus.tokens.vocabulary import Vocabulary


class Masking(Part, ABC):
    """A choice of what is masked: `rate` of the tokens.

    Of these a share `mask` becomes the mask token, a share `random` a random one, and the rest stays.
    """

    counts_tokens: ClassVar[bool] = False
    """Whether it must know how often each token occurs in the corpus."""

    rate: Share = 0.15
    mask: Share = 0.8
    random: Share = 0.1

    def __post_init__(self) -> None:
        """Refuse shares that sum to more than the whole, by a ValueError."""
        if self.mask + self.random > 1:
            raise ValueError(f"mask + random is {self.mask + self.random:g}, but must lie between 0 and 1")

    @abstractmethod
    def choose(self, sequence: Sequence, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the positions (K,) to restore, in rising order."""

    def corrupt(
        self, sequence: Sequence, vocabulary: Vocabulary, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the chosen positions (K,) and the corrupted ids (L,)."""
        chosen = self.choose(sequence, vocabulary, rng)
        ids = sequence.ids.copy()
        draw = self.replacement_draws(chosen, rng)
        ids[chosen[draw < self.mask]] = vocabulary.mask
        swapped = chosen[(draw >= self.mask) & (draw < self.mask + self.random)]
        ids[swapped] = random_tokens(len(swapped), vocabulary, rng)
        return chosen, ids

    def replacement_draws(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
        """Return for each chosen position the number (K,) in [0, 1) by which its replacement is decided."""
        return rng.random(len(chosen))

    def number(self, sequence: Sequence) -> int:
        """Return how many tokens of a sequence may be chosen: max(1, round(rate x L)), as in BERT's released code."""
        return max(1, round(self.rate * len(sequence.ids)))


class JointMasking(Masking):
    """Masking in which chosen tokens that stand side by side share their fate: all masks, all random, or all left."""

    def replacement_draws(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
        """Return one number for each run of positions."""
        run = np.cumsum(np.diff(chosen, prepend=-2) > 1) - 1
        return np.asarray(rng.random(len(chosen))[run])


def words(sequence: Sequence, vocabulary: Vocabulary) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions (C,) that may be chosen, and the number (C,) of the word to which each belongs."""
    candidates = np.flatnonzero(~sequence.fixed)
    begins = vocabulary.word_start[sequence.ids[candidates]]
    begins |= np.diff(candidates, prepend=-2) > 1
    return candidates, np.cumsum(begins) - 1


def random_tokens(number: int, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return (number,) ids drawn evenly from those that are not special; special ones, being few, are drawn again."""
    ids = rng.integers(vocabulary.size, size=number)
    while (special := vocabulary.special[ids]).any():
        ids[special] = rng.integers(vocabulary.size, size=int(special.sum()))
    return ids


def fit_budget(order: NDArray[np.int64], sizes: NDArray[np.int64], budget: int) -> list[int]:
    """Return the words, in that order, that fit into what is left of the budget when their turn comes."""
    taken = []
    for word, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        if size <= budget:
            taken.append(word)
            budget -= size
            if not budget:
                break
    return taken

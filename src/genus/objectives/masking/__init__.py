"""Masking slot: the corruption of a masked language model (which tokens are masked, and what replaces them).

Legend: L sequence length, C candidate tokens, K chosen tokens.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

import numpy as np

from genus.errors import GenusError
from genus.part import Count, Part, Share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Sequence
    from genus.tokens.vocabulary import Vocabulary


class Masking(Part, ABC):
    """A masking strategy: it chooses a share `rate` of the tokens as targets, and replaces them.

    A share `mask` of the chosen tokens becomes the mask token, a share `random` a random token, and the rest is kept.
    """

    rate: Share = 0.15
    mask: Share = 0.8
    random: Share = 0.1
    rounding: Literal["nearest", "up", "stochastic"] = "nearest"
    """How rate x L becomes a number of tokens: as in BERT's released code, which chooses one at least; up, as in
    SpanBERT's; or up with the fraction as probability, as in fairseq's, which may choose none of a short sequence."""
    max_predictions: Count | None = None
    """Largest number of chosen tokens of a sequence (max_predictions_per_seq); None: the share alone says it."""
    replacement: Literal["uniform", "frequency"] = "uniform"
    """Distribution of random tokens: uniform over the vocabulary, or that of the corpus (freq_weighted_replacement)."""

    def __post_init__(self) -> None:
        """Check the shares.

        Raises:
            ValueError: mask + random is over 1.
        """
        if self.mask + self.random > 1:
            raise ValueError(f"mask + random is {self.mask + self.random:g}, but must lie between 0 and 1")

    @property
    def counts_tokens(self) -> bool:
        """Whether it needs the token counts of the corpus."""
        return self.replacement == "frequency"

    @abstractmethod
    def choose(self, sequence: Sequence, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the positions (K,) to predict, in ascending order."""

    def corrupt(
        self, sequence: Sequence, vocabulary: Vocabulary, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the chosen positions (K,) and the corrupted (masked) ids (L,)."""
        chosen = self.choose(sequence, vocabulary, rng)
        ids = sequence.ids.copy()
        draw = self.replacement_draws(chosen, rng)
        ids[chosen[draw < self.mask]] = vocabulary.mask
        swapped = chosen[(draw >= self.mask) & (draw < self.mask + self.random)]
        draw_tokens = random_tokens if self.replacement == "uniform" else frequent_tokens
        ids[swapped] = draw_tokens(len(swapped), vocabulary, rng)
        return chosen, ids

    def replacement_draws(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
        """Return a uniform number (K,) in [0, 1) per chosen position, which decides on its replacement."""
        return rng.random(len(chosen))

    def number(self, sequence: Sequence, rng: np.random.Generator) -> int:
        """Return the number of tokens of a sequence to choose: rate x L, rounded, and at most `max_predictions`."""
        share = self.rate * len(sequence.ids)
        match self.rounding:
            case "nearest":
                number = max(1, round(share))
            case "up":
                number = math.ceil(share)
            case "stochastic":
                number = int(share + rng.random())
        return number if self.max_predictions is None else min(number, self.max_predictions)

    def expected_rate(self, length: float) -> float:
        """Return the share of the tokens of a sequence of this length that is chosen, but for rounding."""
        return self.rate if self.max_predictions is None else min(self.rate, self.max_predictions / length)


class JointMasking(Masking):
    """Masking that replaces each run of adjacent chosen tokens jointly: all by masks, all by random tokens, or none."""

    def replacement_draws(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
        """Return uniform numbers (K,) that are equal within each run of adjacent positions."""
        run = np.cumsum(np.diff(chosen, prepend=-2) > 1) - 1
        return np.asarray(rng.random(len(chosen))[run])


def words(sequence: Sequence, vocabulary: Vocabulary) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the candidate positions (C,), all but fixed tokens, and the index (C,) of the word of each."""
    candidates = np.flatnonzero(~sequence.fixed)
    begins = vocabulary.word_start[sequence.ids[candidates]]
    begins |= np.diff(candidates, prepend=-2) > 1
    return candidates, np.cumsum(begins) - 1


def random_tokens(number: int, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return ids (number,) drawn uniformly from the vocabulary without special tokens (rejection sampling)."""
    ids = rng.integers(vocabulary.size, size=number)
    while (special := vocabulary.special[ids]).any():
        ids[special] = rng.integers(vocabulary.size, size=int(special.sum()))
    return ids


def frequent_tokens(number: int, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return ids (number,) drawn with their frequencies in the corpus, without special tokens.

    Raises:
        GenusError: the vocabulary has no token counts.
    """
    below = np.cumsum(np.where(vocabulary.special, 0, counted(vocabulary)))
    return np.asarray(np.searchsorted(below, rng.random(number) * below[-1], side="right"))


def counted(vocabulary: Vocabulary) -> NDArray[np.int64]:
    """Return the token counts (V,) of the corpus.

    Raises:
        GenusError: the vocabulary has none.
    """
    if vocabulary.counts is None:
        raise GenusError("the frequency of tokens is not known: the tokens of the corpus were not counted")
    return vocabulary.counts


def fit_budget(order: NDArray[np.int64], sizes: NDArray[np.int64], budget: int) -> list[int]:
    """Return the words that fit into the remaining token budget, taken greedily in that order."""
    taken = []
    for word, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        if size <= budget:
            taken.append(word)
            budget -= size
            if not budget:
                break
    return taken

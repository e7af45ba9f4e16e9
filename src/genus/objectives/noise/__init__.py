"""The slot of noise: which tokens of a text an encoder-decoder does not see and has to write.

Legend: E texts, L tokens of a text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from genus.part import Part, Share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.tokens.vocabulary import Vocabulary


class Noise(Part, ABC):
    """A choice of hidden tokens, L - 1 of a text of L at most."""

    @abstractmethod
    def hidden(self, text: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many tokens (E,) of texts of these lengths are hidden at most."""

    def fewest(self, text: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many tokens (E,) are hidden at least; as many as at most, where the length says it."""
        return self.hidden(text)

    @abstractmethod
    def spans(self, text: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return in how many spans (E,) they lie at most, in no longer text in fewer."""

    @abstractmethod
    def taken(self, text: NDArray[np.int64], vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Return (L,) true for the hidden tokens of a text, given by its ids (L,)."""


class RandomNoise(Noise):
    """Noise that does not look at tokens: the nearest number to `rate` x L is hidden, but one at least."""

    rate: Share = 0.15

    def hidden(self, text: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many tokens (E,) of texts of these lengths are hidden."""
        wanted: NDArray[np.float64] = np.maximum(np.rint(self.rate * text), 1)
        return np.minimum(wanted.astype(np.int64), np.maximum(text - 1, 0))

    def taken(self, text: NDArray[np.int64], vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Return (L,) true for the hidden tokens."""
        return self.draw(len(text), rng)

    @abstractmethod
    def draw(self, length: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Return (L,) true for the hidden tokens of a text of L = `length`."""

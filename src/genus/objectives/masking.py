"""Which tokens a masked language model must restore, and what it sees in their place.

Legend: L sequence length, K chosen tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from genus.part import Part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Sequence
    from genus.tokens.vocabulary import Vocabulary


class Masking(Part, ABC):
    """A choice of what is masked: `rate` of the tokens; of these `mask` become the mask token, `random` a random one, the rest stay."""

    rate: float = 0.15
    mask: float = 0.8
    random: float = 0.1

    @abstractmethod
    def choose(self, sequence: Sequence, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the positions (K,) to restore, in rising order."""

    def corrupt(
        self, sequence: Sequence, vocabulary: Vocabulary, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the chosen positions (K,) and the corrupted ids (L,)."""
        chosen = self.choose(sequence, vocabulary, rng)
        ids = sequence.ids.copy()
        draw = rng.random(len(chosen))
        ids[chosen[draw < self.mask]] = vocabulary.mask
        swapped = chosen[(draw >= self.mask) & (draw < self.mask + self.random)]
        ids[swapped] = rng.choice(np.flatnonzero(~vocabulary.special), len(swapped))
        return chosen, ids


class TokenMasking(Masking):
    """Single tokens, drawn without replacement (BERT's released code, create_masked_lm_predictions)."""

    def choose(self, sequence: Sequence, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return max(1, round(rate x length)) positions, or all there are."""
        candidates = np.flatnonzero(~sequence.fixed)
        number = min(len(candidates), max(1, round(self.rate * len(sequence.ids))))
        return np.sort(rng.permutation(candidates)[:number])

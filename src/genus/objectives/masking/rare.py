"""Frequency-dependent masking (DistilBERT): rare tokens are masked more often than frequent ones.

Legend: K chosen tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.objectives.masking import Masking, counted
from genus.part import NotNegative

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Sequence
    from genus.tokens.vocabulary import Vocabulary


class RareMasking(Masking):
    """Token masking without replacement, with probability in proportion to max(1, count in the corpus) ^ -smoothing.

    Source: DistilBERT's released code, train.py (token_probs) and distiller.py (prepare_batch_mlm). Deviation: there
    `rate` holds per batch, and a sequence of frequent tokens has few masks; here it holds per sequence.
    """

    smoothing: NotNegative = 0.7

    @property
    def counts_tokens(self) -> bool:
        """Always: rare tokens are told by their counts."""
        return True

    @property
    def in_words(self) -> str:
        """Description in words: the unit of masking."""
        return "single tokens, rare ones more often"

    def choose(self, sequence: Sequence, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return `number` positions (K,), or fewer if there are fewer tokens that are not special.

        Weighted sampling without replacement: the K smallest of exponential variables, each with its token's weight as
        rate (Efraimidis & Spirakis 2006).

        Raises:
            GenusError: the vocabulary has no token counts.
        """
        candidates = np.flatnonzero(~sequence.fixed & ~vocabulary.special[sequence.ids])
        rates = np.maximum(counted(vocabulary)[sequence.ids[candidates]], 1.0) ** -self.smoothing
        waits = rng.exponential(size=len(candidates)) / rates
        return np.sort(candidates[np.argsort(waits)[: self.number(sequence, rng)]])

"""N-gram masking: short runs of whole words (Lan et al. 2019, ALBERT, section 4.1).

Legend: L sequence length, C candidate tokens, W words, K chosen tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.objectives.masking import Masking, words
from genus.part import Count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Sequence
    from genus.tokens.vocabulary import Vocabulary


class NGramMasking(Masking):
    """N-gram masking: n words, p(n) = (1 / n) / Σₖ (1 / k) for n up to `longest`; each piece is replaced separately.

    Every word is tried in random order as the first of a run. If fewer words are left in the segment, n is drawn up to
    their number. A run that would exceed `number` tokens loses words at its end until it fits; a run
    that does not fit, or overlaps an earlier one, is skipped. So late runs are shorter than the distribution says.

    Source: Lan et al. 2019, section 4.1; released code, create_pretraining_data.py, create_masked_lm_predictions.
    Deviation: there a run may cross the separator into the second segment; here it stays within one.
    """

    longest: Count = 3
    """Largest n, in words."""

    @property
    def in_words(self) -> str:
        """Description in words: the unit of masking."""
        return f"runs of up to {self.longest} words"

    def choose(self, sequence: Sequence, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the positions (K,) of the chosen n-grams, at most `number`."""
        candidates, word = words(sequence, vocabulary)
        first = np.searchsorted(word, np.arange(word.max(initial=-1) + 2))
        left = self._words_left(candidates, word, first[:-1])
        order = rng.permutation(len(left))
        weights = np.cumsum(1 / np.arange(1, self.longest + 1))
        drawn = np.searchsorted(weights, rng.random(len(left)) * weights[left - 1], side="right") + 1
        chosen = np.zeros(len(candidates), dtype=np.bool_)
        budget = self.number(sequence, rng)
        bounds = first.tolist()
        for start, n in zip(order.tolist(), drawn[order].tolist(), strict=True):
            while n and bounds[start + n] - bounds[start] > budget:
                n -= 1
            run = slice(bounds[start], bounds[start + n])
            if n and not chosen[run].any():
                chosen[run] = True
                budget -= run.stop - run.start
                if not budget:
                    break
        return candidates[chosen]

    def _words_left(
        self, candidates: NDArray[np.int64], word: NDArray[np.int64], first: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the largest n (W,) of a run that starts at each word: `longest`, or the words left in the segment."""
        gaps = np.flatnonzero(np.diff(candidates) > 1) + 1
        ends = np.append(word[gaps], len(first))
        end = ends[np.searchsorted(gaps, first, side="right")]
        return np.minimum(self.longest, end - np.arange(len(first)))

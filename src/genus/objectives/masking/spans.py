"""SpanBERT's masking: contiguous spans of whole words.

Legend: L sequence length, W words, K chosen tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.objectives.masking import JointMasking, words
from genus.part import Count, SomeShare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Sequence
    from genus.tokens.vocabulary import Vocabulary


class SpanMasking(JointMasking):
    """Spans of words, of lengths l with P(l) ~ (1 - p)^(l - 1) p for l up to `longest`, each begun at a random word.

    Spans are drawn until max(1, round(rate x L)) tokens are chosen. One begins at a word that is not chosen yet, and
    ends early at a token of the frame; the last one, at a word that would be too many tokens. Spans that meet are one
    span. A span becomes masks, or random tokens, or stays, as a whole.

    Deviation: the released code cuts the last span to the very number of tokens, within a word if need be.

    Source: Joshi et al. 2019, section 3.1; released code, pretraining/fairseq/data/masking.py.
    """

    p: SomeShare = 0.2
    longest: Count = 10
    """Words."""

    @property
    def in_words(self) -> str:
        """What is chosen."""
        return f"spans of up to {self.longest} words"

    def lengths(self, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the lengths in words of so many spans."""
        chance = (1 - self.p) ** np.arange(self.longest)
        return 1 + rng.choice(self.longest, size=number, p=chance / chance.sum())

    def choose(self, sequence: Sequence, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the positions of the spans' tokens, max(1, round(rate x L)) at most."""
        candidates, word = words(sequence, vocabulary)
        first = np.flatnonzero(np.diff(word, prepend=-1))
        sizes = np.bincount(word)
        after_frame = (np.diff(candidates, prepend=-2) > 1)[first]
        begins = rng.permutation(len(sizes))
        chosen = np.zeros(len(sizes), dtype=np.bool_)
        room = self.number(sequence)
        for begin, length in zip(begins.tolist(), self.lengths(len(begins), rng).tolist(), strict=True):
            if chosen[begin] or sizes[begin] > room:
                continue
            for one in range(begin, min(begin + length, len(sizes))):
                if one > begin and after_frame[one]:
                    break
                taken = 0 if chosen[one] else int(sizes[one])
                if taken > room:
                    room = 0
                    break
                chosen[one] = True
                room -= taken
            if not room:
                break
        return candidates[np.flatnonzero(chosen[word])]

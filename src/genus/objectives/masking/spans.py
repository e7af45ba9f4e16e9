"""Span masking (SpanBERT): contiguous spans of whole words.

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
    """Span masking: spans of l words, P(l) ~ (1 - p)^(l - 1) p (geometric, l up to `longest`), begun at random words.

    Spans are drawn until `number` tokens are chosen. A span starts at a word that is not chosen yet, and
    ends early at a special token of the frame; the last one ends before a word that would exceed the number of tokens.
    Adjacent spans count as one. A span is replaced as a whole: by masks, by random tokens, or not at all.

    Deviations: the released code cuts the last span to the exact number of tokens, within a word if necessary; its
    spans begin at the word of a random token, so that long words are begun at more often; and it does not count the
    frame's tokens in L.

    Source: Joshi et al. 2019, section 3.1; released code, pretraining/fairseq/data/masking.py.
    """

    p: SomeShare = 0.2
    longest: Count = 10
    """Largest length of a span, in words."""

    @property
    def in_words(self) -> str:
        """Description in words: the unit of masking."""
        return f"spans of up to {self.longest} words"

    def lengths(self, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the lengths (number,) of spans, in words, drawn from P(l)."""
        chance = (1 - self.p) ** np.arange(self.longest)
        return 1 + rng.choice(self.longest, size=number, p=chance / chance.sum())

    def choose(self, sequence: Sequence, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the positions (K,) of the spans' tokens, at most `number`."""
        candidates, word = words(sequence, vocabulary)
        first = np.flatnonzero(np.diff(word, prepend=-1))
        sizes = np.bincount(word)
        after_frame = (np.diff(candidates, prepend=-2) > 1)[first]
        begins = rng.permutation(len(sizes))
        chosen = np.zeros(len(sizes), dtype=np.bool_)
        room = self.number(sequence, rng)
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

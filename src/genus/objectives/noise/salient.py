"""Salient-span masking: a named entity or a date is hidden, so that what is learned is knowledge of the world."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from genus.examples import Sequence
from genus.objectives.masking import words
from genus.objectives.masking.entities import EntitiesAndDates
from genus.objectives.masking.knowledge import PUNCTUATION, Chunker  # a choice is read by its annotation
from genus.objectives.noise import Noise
from genus.part import Count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.tokens.vocabulary import Vocabulary


class SalientSpans(Noise):
    """One span of a text is hidden: of the named entities and dates that the `chunker` finds, each as likely.

    Punctuation at the ends of a span stays. Deviation: sentences without such spans are left out by the authors; here a
    word of theirs is hidden, each as likely.

    Source: Guu et al. 2020 (REALM, arXiv:2002.08909), section 3.4, one in each sentence; by an encoder-decoder: Roberts
    et al. 2020 (arXiv:2002.08910).
    """

    chunker: Chunker = EntitiesAndDates()
    longest: Count = 12
    """Largest number of tokens of a span, or of a word; longer ones are never hidden."""

    @property
    def in_words(self) -> str:
        """That it is one span, and of what."""
        return "one entity or date"

    def hidden(self, text: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the largest number of hidden tokens (E,) of texts of these lengths."""
        return np.minimum(self.longest, np.maximum(text - 1, 0))

    def fewest(self, text: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return one (E,), where a text has more than one token."""
        return np.minimum(self.hidden(text), 1)

    def spans(self, text: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return one (E,), where a text has more than one token."""
        return self.fewest(text)

    def taken(self, text: NDArray[np.int64], vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Return (L,) true for the tokens of the hidden span."""
        taken = np.zeros(len(text), dtype=np.bool_)
        salient, plain = self.found(text, vocabulary)
        if (spans := salient or plain) and len(text) > 1:
            first, past = spans[int(rng.integers(len(spans)))]
            taken[first:past] = True
        return taken

    def found(
        self, text: NDArray[np.int64], vocabulary: Vocabulary
    ) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return the salient spans of a text, and all its words, that may be hidden, as half-open ranges of tokens."""
        plain = Sequence(text, np.zeros_like(text), vocabulary.special[text])
        candidates, word = words(plain, vocabulary)
        pieces = [vocabulary.texts[number] for number in text[candidates]]
        begins = np.flatnonzero(np.diff(word, prepend=-1))
        bounds = [*begins.tolist(), len(pieces)]
        read = ["".join(pieces[a:b]) for a, b in pairwise(bounds)]
        apart = np.flatnonzero((np.diff(candidates, prepend=-2) > 1)[begins]).tolist()  # special tokens lie between
        salient = []
        for start, stop in pairwise([*apart, len(read)]):
            chunks = self.chunker.chunks(read[start:stop])
            salient += [(bounds[start + first], bounds[start + past]) for first, past in chunks]
        return tuple(  # type: ignore[return-value]
            [
                (int(candidates[first]), int(candidates[past - 1]) + 1)
                for first, past in (trimmed(pieces, *one) for one in spans)
                if 0 < past - first <= min(self.longest, len(text) - 1)
            ]
            for spans in (salient, [*pairwise(bounds)])
        )


def trimmed(pieces: list[str], first: int, past: int) -> tuple[int, int]:
    """Return a range of pieces without those at its ends that are punctuation or nothing."""
    while first < past and not pieces[first].strip(PUNCTUATION):
        first += 1
    while first < past and not pieces[past - 1].strip(PUNCTUATION):
        past -= 1
    return first, past

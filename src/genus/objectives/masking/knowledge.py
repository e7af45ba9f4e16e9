"""Entity and phrase masking (knowledge masking, ERNIE), and the chunker that finds entities and phrases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from genus.objectives.masking import JointMasking, fit_budget, words
from genus.part import Count, Part

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from genus.examples import Sequence as examples_Sequence
    from genus.tokens.vocabulary import Vocabulary


Kind = Literal["entity", "phrase"]

PUNCTUATION = "\"'()[]{}<>.,:;!?-_/\\|*&%$#@=+~`\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u00ab\u00bb"

STOP_WORDS = """
a about above after again against all am an and any are as at be because been before being below between both
but by can could did do does doing down during each few for from further had has have having he her here hers
herself him himself his how i if in into is it its itself just may me might more most must my myself no nor not
now of off on once only or other our ours ourselves out over own same shall she should so some such than that
the their theirs them themselves then there these they this those through to too under until up upon very was we
were what when where which while who whom whose why will with would you your yours yourself yourselves
"""
"""English stop words (function words)."""


class Chunker(Part, ABC):
    """A chunker, which groups words into entities and phrases. To add one, write a subclass in any module here."""

    @abstractmethod
    def chunks(self, words: Sequence[str]) -> list[tuple[int, int]]:
        """Return the chunks of a list of words as half-open ranges (first, end), ascending and disjoint."""


class RuleChunker(Chunker):
    """Rule-based chunker: chunks are runs of words of one kind, bounded by stop words and punctuation.

    An entity is a run of words that begin with a capital letter or a digit, a phrase is a run of other words. It needs
    no model and no download, only the stop words of a language; with an uncased vocabulary it finds only phrases.
    """

    kinds: tuple[Kind, ...] = ("entity", "phrase")
    longest: Count = 4
    """Largest number of words of a chunk; a longer run is cut."""
    stop_words: tuple[str, ...] | None = None
    """Stop words in lowercase; None: the English ones."""

    def chunks(self, words: Sequence[str]) -> list[tuple[int, int]]:
        """Return the runs of two or more words, cut at `longest`."""
        found = []
        for kind, run in groupby(self._labeled(words), key=lambda one: one[1:]):
            places = [place for place, *_ in run]
            for first in range(places[0], places[-1] + 1, self.longest):
                past = min(first + self.longest, places[-1] + 1)
                if kind[0] in self.kinds and past - first > 1:
                    found.append((first, past))
        return found

    def _labeled(self, words: Sequence[str]) -> Iterator[tuple[int, Kind | None, int]]:
        """Yield each word's index, its kind (None: no chunk), and the index of its punctuation-free stretch."""
        stop_words = frozenset(STOP_WORDS.split() if self.stop_words is None else self.stop_words)
        stretch = 0
        for place, word in enumerate(words):
            bare = word.strip(PUNCTUATION)
            stretch += word[:1] in PUNCTUATION
            if not bare or bare.lower() in stop_words:
                yield place, None, stretch
            else:
                yield place, "entity" if bare[0].isupper() or bare[0].isdigit() else "phrase", stretch
            stretch += word[-1:] in PUNCTUATION


class KnowledgeMasking(JointMasking):
    """Knowledge masking: an entity, a phrase, or a word outside of both is masked as a whole.

    These units are taken in random order; one that would exceed `number` tokens is skipped.

    Source: Sun et al. 2019, ERNIE (arXiv:1904.09223), section 3.2; ERNIE 2.0, section 3.2.1.
    """

    chunker: Chunker = RuleChunker()

    @property
    def in_words(self) -> str:
        """Description in words: the unit of masking."""
        return "entities, phrases and words"

    def choose(
        self, sequence: examples_Sequence, vocabulary: Vocabulary, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return the positions (K,) of the chosen units, at most `number`."""
        candidates, word = words(sequence, vocabulary)
        unit = self.units(sequence.ids[candidates], candidates, word, vocabulary)
        sizes = np.bincount(unit)
        chosen = np.zeros(len(sizes), dtype=np.bool_)
        chosen[fit_budget(rng.permutation(len(sizes)), sizes, self.number(sequence, rng))] = True
        return candidates[chosen[unit]]

    def units(
        self, ids: NDArray[np.int64], candidates: NDArray[np.int64], word: NDArray[np.int64], vocabulary: Vocabulary
    ) -> NDArray[np.int64]:
        """Return the index (C,) of the entity, phrase or word that each token belongs to."""
        first = np.flatnonzero(np.diff(word, prepend=-1))
        pieces = [vocabulary.texts[number] for number in ids]
        texts = ["".join(pieces[a:b]) for a, b in pairwise([*first.tolist(), len(pieces)])]
        stretches = np.flatnonzero((np.diff(candidates, prepend=-2) > 1)[first])
        joined = np.ones(len(texts), dtype=np.bool_)
        for start, stop in pairwise([*stretches.tolist(), len(texts)]):
            for begin, past in self.chunker.chunks(texts[start:stop]):
                joined[start + begin + 1 : start + past] = False
        return (np.cumsum(joined) - 1)[word]

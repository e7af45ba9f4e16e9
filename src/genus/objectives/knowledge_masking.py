"""ERNIE's masking: whole entities, phrases and words.

Legend: L sequence length, C tokens that may be chosen, W words, K chosen tokens.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from genus.objectives.chunking import Chunker, RuleChunker
from genus.objectives.masking import JointMasking, within, words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Sequence
    from genus.tokens.vocabulary import Vocabulary


class KnowledgeMasking(JointMasking):
    """All tokens of an entity, a phrase or a word that belongs to neither, or none; they become masks together.

    They are taken in random order; one that would exceed max(1, round(rate x L)) tokens is passed over.

    Source: Sun et al. 2019, ERNIE (arXiv:1904.09223), section 3.2; ERNIE 2.0, section 3.2.1.
    """

    chunker: Chunker = RuleChunker()

    @property
    def in_words(self) -> str:
        """What is chosen."""
        return "entities, phrases and words"

    def choose(self, sequence: Sequence, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the positions of what is chosen, max(1, round(rate x L)) at most."""
        candidates, word = words(sequence, vocabulary)
        unit = self.units(sequence.ids[candidates], candidates, word, vocabulary)
        sizes = np.bincount(unit)
        chosen = np.zeros(len(sizes), dtype=np.bool_)
        chosen[within(rng.permutation(len(sizes)), sizes, self.number(sequence))] = True
        return candidates[chosen[unit]]

    def units(
        self, ids: NDArray[np.int64], candidates: NDArray[np.int64], word: NDArray[np.int64], vocabulary: Vocabulary
    ) -> NDArray[np.int64]:
        """Return the number (C,) of the entity, phrase or word that each token belongs to."""
        first = np.flatnonzero(np.diff(word, prepend=-1))
        pieces = [vocabulary.texts[number] for number in ids]
        texts = ["".join(pieces[a:b]) for a, b in pairwise([*first.tolist(), len(pieces)])]
        stretches = np.flatnonzero((np.diff(candidates, prepend=-2) > 1)[first])
        joined = np.ones(len(texts), dtype=np.bool_)
        for start, stop in pairwise([*stretches.tolist(), len(texts)]):
            for begin, past in self.chunker.chunks(texts[start:stop]):
                joined[start + begin + 1 : start + past] = False
        return (np.cumsum(joined) - 1)[word]

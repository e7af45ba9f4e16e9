"""Pairs of sentences near to each other, far from each other, and of different documents.

Legend: S sentences of a block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.examples.pairs import Pairs, cut, elsewhere

if TYPE_CHECKING:
    from genus.examples.blocks import Block
    from genus.examples.pairs import Labeled
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary


class DistantSentences(Pairs):
    """Each sentence with another one.

    Label 0: the next one; 1: one of its document, but not beside it; 2: one of another document. The label is drawn
    evenly; where the document has no such sentence, it is 2.

    Source: Sun et al. 2019, ERNIE 2.0, section 3.2.2, sentence distance.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"sentence_distance"})

    @property
    def classes(self) -> int:
        """Three: adjacent, of one document, of two."""
        return 3

    def pairs(self, block: Block, store: Store, vocabulary: Vocabulary, room: int, rng: np.random.Generator) -> Labeled:
        """Return the spans and labels of a block's pairs."""
        one = np.arange(len(block.end))
        begin = np.searchsorted(block.document, block.document)
        first, last = np.maximum(one - 1, begin), np.minimum(one + 1, block.end - 1)  # itself and those beside it
        beside = last - first + 1
        far = block.end - begin - beside
        label = rng.integers(0, 3, len(one))
        label[((label == 0) & (one + 1 == block.end)) | ((label == 1) & (far == 0))] = 2
        other = begin + (rng.random(len(one)) * far).astype(np.int64)
        other += np.where(other >= first, beside, 0)
        other = np.where(label == 0, last, np.minimum(other, len(one) - 1))
        start, stop = block.start[other], block.stop[other]
        away = label == 2
        least = np.zeros(away.sum(), dtype=np.int64)  # tokens: one sentence is enough
        start[away], stop[away] = elsewhere(store, block.document[away], least, rng)
        return *cut((block.start, block.stop), (start, stop), room, rng), label.astype(np.int8)

"""Sentence-order prediction (ALBERT): pairs of consecutive segments of one document, in order or swapped."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.examples.blocks import follow
from genus.examples.formats.pairs import PairFormat, cut, filled
from genus.part import Share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples.blocks import SentenceBlock
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary

    Labeled = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]


class OrderedPairs(PairFormat):
    """Sentence-order prediction: chunks as in `SegmentPairs`, split in two, swapped with probability `swapped`.

    Label 0: the segments are in the order of the text; 1: they are swapped. A chunk of one sentence is split between
    any two of its tokens; a chunk of one token makes no pair.

    Deviation: the released code pairs a chunk of one sentence with text from another document, labeled as swapped.

    Source: Lan et al. 2019, section 3.1, inter-sentence coherence loss; released code, create_pretraining_data.py.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"sentence_order"})

    short: Share = 0.1
    """Share of the documents whose target length is drawn from [2, the longest], as in `SegmentPairs`."""
    swapped: Share = 0.5

    def pairs(
        self, block: SentenceBlock, store: Store, vocabulary: Vocabulary, room: int, rng: np.random.Generator
    ) -> Labeled:
        """Return starts and stops (E, 2) and labels (E,) of a block's pairs."""
        end, _ = filled(block, room, self.short, rng)
        begin = follow(end)
        end = end[begin]
        start, stop = block.start[begin], block.stop[end - 1]
        begin, end, start, stop = (ends[stop - start > 1] for ends in (begin, end, start, stop))
        draw = rng.random(len(begin))
        sentence = begin + 1 + (draw * (end - begin - 1)).astype(np.int64)
        token = start + 1 + (draw * (stop - start - 1)).astype(np.int64)
        middle = np.where(end - begin > 1, block.stop[sentence - 1], token)
        starts, stops = cut((start, middle), (middle, stop), room, rng)
        swap = rng.random(len(begin)) < self.swapped
        starts[swap], stops[swap] = starts[swap, ::-1], stops[swap, ::-1]
        return starts, stops, swap.astype(np.int8)

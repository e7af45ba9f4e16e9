"""Pairs for next-sentence prediction, of segments or of sentences (BERT)."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.errors import GenusError
from genus.examples.blocks import SentenceBlock, follow
from genus.examples.formats.pairs import PairFormat, cut, elsewhere, filled
from genus.part import Share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import EpochPlan, Limits
    from genus.examples.blocks import Documents
    from genus.examples.formats.pairs import Labeled, Span
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary


class NextPairs(PairFormat):
    """Pairs whose second segment, with probability `random_next`, gives way to other text.

    What gave way begins the next chunk. Label 0: the second segment follows the first; 1: it is from another document.
    A chunk of one sentence has no second part, so other text takes its place always.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"next_sentence"})

    random_next: Share = 0.5

    @abstractmethod
    def chunks(self, block: SentenceBlock, room: int, rng: np.random.Generator) -> Span:
        """Return the end of the chunk that each sentence would begin (S,), and the tokens its pair aims at (S,)."""

    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Cut some documents into pairs.

        Raises:
            GenusError: one document only, or no room for two segments.
        """
        if len(store.documents) == 1:
            raise GenusError(
                "there is one document, but random next segments come from another: "
                "give four or more, with blank lines between them, or two with --run held_out=0"
            )
        return super().plan(documents, store, vocabulary, limits, seed, epoch)

    def pairs(
        self, block: SentenceBlock, store: Store, vocabulary: Vocabulary, room: int, rng: np.random.Generator
    ) -> Labeled:
        """Return the spans and labels of a block's pairs.

        What a chunk is depends on its first sentence only. So it is drawn for every sentence as if a chunk began there,
        and the chunks that do occur are found by going from one to the next.
        """
        end, target = self.chunks(block, room, rng)
        first = np.arange(len(end))
        sentences = end - first
        split = first + 1 + (rng.random(len(end)) * (sentences - 1)).astype(np.int64)
        random = (sentences == 1) | (rng.random(len(end)) < self.random_next)
        begin = follow(np.where(random, split, end))

        split, end, random = split[begin], end[begin], random[begin]
        start_a, stop_a = block.start[begin], block.stop[split - 1]
        start_b, stop_b = block.stop[split - 1], block.stop[end - 1]
        missing = target[begin] - (stop_a - start_a)
        start_b[random], stop_b[random] = elsewhere(store, block.document[begin[random]], missing[random], rng)
        return *cut((start_a, stop_a), (start_b, stop_b), room, rng), random.astype(np.int8)


class SegmentPairs(NextPairs):
    """Chunks of sentences that just reach a target length, split at a random sentence boundary.

    The target is the longest pair that fits, max_length less the frame, but in a share `short` of the documents a
    number drawn from [2, that], so that the model also sees short input. Drawing one target a document, and cutting
    down to the longest pair rather than to the target, are as in the released code.

    Source: Devlin et al. 2018, appendix A.2; released code, create_pretraining_data.py. RoBERTa's `SEGMENT-PAIR+NSP`.
    """

    short: Share = 0.1

    def chunks(
        self, block: SentenceBlock, room: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the ends of chunks that reach the target or the end of the document, and the targets."""
        return filled(block, room, self.short, rng)


class SentencePairs(NextPairs):
    """One sentence and the next one of its document, or any one of another document.

    The pairs are much shorter than a row, so a row holds many, and an update as many tokens as with other formats.

    Source: Liu et al. 2019, section 4.2, `SENTENCE-PAIR+NSP`.
    """

    def chunks(
        self, block: SentenceBlock, room: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return two sentences for each chunk, where the document has them, and no length to fill up to."""
        end = np.minimum(np.arange(2, len(block.end) + 2), block.end)
        return end, np.zeros_like(end)

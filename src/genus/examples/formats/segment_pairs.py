"""Next-sentence prediction (BERT): pairs of segments or of sentences."""

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
    """Pairs for next-sentence prediction: with probability `random_next` the second segment is from another document.

    Label 0: the second segment follows the first; 1: it is from another document, and the replaced segment begins the
    next chunk. A chunk of one sentence has no second part, so its second segment is always from another document.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"next_sentence"})

    random_next: Share = 0.5

    @abstractmethod
    def chunks(self, block: SentenceBlock, room: int, rng: np.random.Generator) -> Span:
        """Return the end (S,) of a chunk that starts at each sentence, and its target length (S,) in tokens."""

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
        """Return starts and stops (E, 2) and labels (E,) of a block's pairs.

        A chunk depends on its first sentence only. So the draws are vectorized over all sentences as possible starts,
        and the actual chunks are found by following the chain of ends.
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
    """Segment pairs: chunks of sentences that just reach a target length, split at a random sentence boundary.

    The target is the longest pair that fits, max_length minus the special tokens, except in a share `short` of the
    documents: a number drawn from [2, longest], so that the model also gets short inputs. As in the released code, one
    target is drawn per document, and pairs are truncated to the longest pair, not to the target.

    Source: Devlin et al. 2018, appendix A.2; released code, create_pretraining_data.py. RoBERTa's `SEGMENT-PAIR+NSP`.
    """

    short: Share = 0.1

    def chunks(
        self, block: SentenceBlock, room: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the ends (S,) of chunks that reach the target or the end of the document, and the targets (S,)."""
        return filled(block, room, self.short, rng)


class SentencePairs(NextPairs):
    """Sentence pairs: one sentence and the next one of its document, or a random one of another document.

    The pairs are much shorter than a row, so a row packs many of them, and a batch has as many tokens as with other
    formats.

    Source: Liu et al. 2019, section 4.2, `SENTENCE-PAIR+NSP`.
    """

    def chunks(
        self, block: SentenceBlock, room: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return chunks of two sentences, or one at a document's end, and target lengths of 0."""
        end = np.minimum(np.arange(2, len(block.end) + 2), block.end)
        return end, np.zeros_like(end)

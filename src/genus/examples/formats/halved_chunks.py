"""ELECTRA's input: chunks of consecutive sentences of one document, most of them split into two segments.

Legend: S sentences of a block, E examples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.errors import GenusError
from genus.examples import EpochPlan, Example, ExampleFormat, Sequence
from genus.examples.blocks import SentenceBlock, flatten, follow
from genus.examples.keys import PLAN, generator
from genus.part import Share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Limits
    from genus.examples.blocks import Documents
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary

    Ends = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

LEAST = 5
"""Shortest random target length, in tokens (released code)."""


class HalvedChunks(ExampleFormat):
    """ELECTRA's segment pairs: chunks of whole sentences that just reach a target length, split in halves; no label.

    A chunk ends with the sentence that reaches its target length, or with its document. The target is the sequence
    length, except for a share `short` of the chunks: a number drawn from [5, sequence length]. The first segment takes
    whole sentences while it is under half of the target, and with probability 0.5 the one that exceeds it; a share
    `single` of the chunks remains one segment. Segments that are too long are truncated at their ends.

    Deviation: the released code can add a short sentence to the first segment after the second has begun.

    Source: Clark et al. 2020, released code, build_pretraining_dataset.py.
    """

    texts: ClassVar[int] = 2

    short: Share = 0.05
    single: Share = 0.1

    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Cut some documents into chunks.

        Raises:
            GenusError: no room for a token in each segment.
        """
        pair, alone = vocabulary.framing(2), vocabulary.framing(1)
        max_length = limits["tokens"]
        if max_length < pair + 2:
            raise GenusError(f"sequences of {max_length} have no room for a pair: choose max_length {pair + 2} or more")
        rng = generator(seed, PLAN, epoch, documents.number)
        start, middle, stop = self._chunks(flatten(store, documents), max_length, pair, rng)
        first = np.minimum(middle - start, max_length - alone)
        second = np.clip(max_length - pair - first, 0, stop - middle)
        spans = 1 + (second > 0)
        kept = np.stack([np.ones_like(spans), second], axis=1) > 0
        return EpochPlan(
            offsets=np.concatenate([[0], np.cumsum(spans)]),
            start=np.stack([start, middle], axis=1)[kept],
            stop=np.stack([start + first, middle + second], axis=1)[kept],
            segment=np.broadcast_to(np.array([0, 1], dtype=np.int8), kept.shape)[kept],
            label=np.full(len(spans), -1, dtype=np.int8),
            lengths={"tokens": first + second + np.where(second > 0, pair, alone)},
        )

    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return the segment or the pair with special tokens, without targets."""
        spans = range(plan.offsets[index], plan.offsets[index + 1])
        return Example({"tokens": Sequence(*vocabulary.frame(*(plan.text(span, store) for span in spans)))}, {})

    def _chunks(self, block: SentenceBlock, max_length: int, pair: int, rng: np.random.Generator) -> Ends:
        """Return the starts of a block's chunks, the starts of their second segments and their stops (E,).

        A chunk depends on its first sentence only. So the draws are vectorized over all sentences as possible starts,
        and the actual chunks are found by following the chain of ends.
        """
        sentences = len(block.start)
        drawn = rng.integers(min(LEAST, max_length), max_length + 1, sentences)
        target = np.where(rng.random(sentences) < self.short, drawn, max_length)
        begin = follow(np.minimum(np.searchsorted(block.stop, block.start + target) + 1, block.end))
        end, start = np.append(begin[1:], sentences), block.start[begin]
        half = np.maximum(0, target[begin] - pair) // 2
        under = np.searchsorted(block.stop, start + half)
        split = np.maximum(under, begin + 1) + ((under > begin) & (rng.random(len(begin)) < 0.5))
        split = np.where(rng.random(len(begin)) < self.single, end, np.minimum(split, end))
        return start, block.stop[split - 1], block.stop[end - 1]

"""BERT's pairs of segments, each of many sentences, filled up to the sequence length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.examples.pairs import NextPairs, filled
from genus.part import Share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from genus.examples.blocks import Block


class SegmentPairs(NextPairs):
    """Chunks of sentences that just reach a target length, split at a random sentence boundary.

    The target is the longest pair that fits, max_length less the frame, but in a share `short` of the documents a
    number drawn from [2, that], so that the model also sees short input. Drawing one target a document, and cutting
    down to the longest pair rather than to the target, are as in the released code.

    Source: Devlin et al. 2018, appendix A.2; released code, create_pretraining_data.py. RoBERTa's `SEGMENT-PAIR+NSP`.
    """

    short: Share = 0.1

    def chunks(self, block: Block, room: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the ends of chunks that reach the target or the end of the document, and the targets."""
        return filled(block, room, self.short, rng)

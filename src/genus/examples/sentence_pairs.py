"""Pairs of single natural sentences, with next-sentence prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.examples.pairs import NextPairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples.blocks import Block


class SentencePairs(NextPairs):
    """One sentence and the next one of its document, or any one of another document.

    The pairs are much shorter than a row, so a row holds many, and an update as many tokens as with other formats.

    Source: Liu et al. 2019, section 4.2, `SENTENCE-PAIR+NSP`.
    """

    def chunks(self, block: Block, room: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return two sentences for each chunk, where the document has them, and no length to fill up to."""
        end = np.minimum(np.arange(2, len(block.end) + 2), block.end)
        return end, np.zeros_like(end)

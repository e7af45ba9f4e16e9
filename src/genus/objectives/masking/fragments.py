"""Masking of fragments of a text (MASS).

Legend: L sequence length, K chosen tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.objectives.masking import Masking
from genus.part import Count, Share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Sequence
    from genus.tokens.vocabulary import Vocabulary


class FragmentMasking(Masking):
    """Fragment masking: one fragment of consecutive tokens, rate x L of them, is chosen; or one in each `block`.

    It begins anywhere after the first token of the sequence, which has nothing before it; the last one, though it be a
    special token, may be in it. In a block, a fragment has rate x its tokens, rounded down.

    Source: Song et al. 2019, sections 3.2 and 4.1; released code, MASS-unsupNMT/src/trainer.py, restricted_mask_sent
    (`ends` 0.2), and MASS-summarization/mass/masked_dataset.py (blocks of 64). Deviation: random tokens are none of the
    special ones.
    """

    rate: Share = 0.5
    block: Count | None = None
    """Tokens of a block, each of which has a fragment; None: the sequence is one."""
    ends: Share = 0.0
    """Share of fragments at the beginning of the sequence or block, and as many at its end; others are anywhere."""

    def __post_init__(self) -> None:
        """Check the shares.

        Raises:
            ValueError: mask + random, or twice `ends`, is over 1.
        """
        super().__post_init__()
        if self.ends > 0.5:
            raise ValueError(f"ends: {self.ends:g} of the fragments at the beginning and as many at the end are over 1")

    @property
    def in_words(self) -> str:
        """Description in words: the unit of masking."""
        return "one fragment" if self.block is None else f"one fragment of every {self.block} tokens"

    def choose(self, sequence: Sequence, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the positions (K,) of the fragments."""
        length, found = len(sequence.ids), [np.zeros(0, dtype=np.int64)]
        block = self.block or max(length, 1)
        for first in range(1, length, block):
            room = min(block, length - first)
            size = int(self.rate * room) if self.block else min(self.number(sequence, rng), room)
            found.append(first + self._begin(room - size, rng) + np.arange(size))
        return np.concatenate(found)

    def _begin(self, last: int, rng: np.random.Generator) -> int:
        """Return where in a block a fragment begins, from 0 to `last`."""
        place = rng.random()
        if place < 2 * self.ends:
            return 0 if place < self.ends else last
        return int(rng.integers(last + 1))

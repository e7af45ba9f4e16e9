"""Single sentences as examples (REALM)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.errors import GenusError
from genus.examples import EpochPlan, Example, ExampleFormat, Sequence
from genus.examples.blocks import flatten

if TYPE_CHECKING:
    from genus.examples import Limits
    from genus.examples.blocks import Documents
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary


class SingleSentences(ExampleFormat):
    """Every sentence is an example of its own; a longer one than fits is cut into pieces, which are examples too.

    Source: Guu et al. 2020, section 3.4: one span is masked within a sentence.
    """

    stochastic: ClassVar[bool] = False

    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Cut some documents into sentences.

        Raises:
            GenusError: no room for a token.
        """
        room, block = limits["tokens"] - vocabulary.framing(1), flatten(store, documents)
        if room < 1:
            raise GenusError(f"sequences of {limits['tokens']} have no room for text: choose max_length "
                             f"{vocabulary.framing(1) + 1} or more")  # fmt: skip
        pieces = -(-(block.stop - block.start) // room)
        within = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        start = np.repeat(block.start, pieces) + within * room
        stop = np.minimum(start + room, np.repeat(block.stop, pieces))
        return EpochPlan(
            offsets=np.arange(len(start) + 1),
            start=start,
            stop=stop,
            segment=np.zeros(len(start), dtype=np.int8),
            label=np.full(len(start), -1, dtype=np.int8),
            lengths={"tokens": stop - start + vocabulary.framing(1)},
        )

    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return the sentence with special tokens, without targets."""
        return Example({"tokens": Sequence(*vocabulary.frame(plan.text(index, store)))}, {})

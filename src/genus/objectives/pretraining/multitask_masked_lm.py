"""Multitask masked language model: one of several attention masks for each sequence (UniLM; Lewis et al. 2019)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.examples import Example
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.part import Share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.model import Model
    from genus.tokens.vocabulary import Vocabulary

ORDER = "order"
"""Name of the fact that says what a token attends to: those of its sequence that come no later in the order."""


class MultitaskMaskedLM(MaskedLM):
    """Multitask masked language model: `MaskedLM`, each sequence under one of four attention masks, drawn for it.

    Left to right, right to left, sequence to sequence (`first` of its tokens see one another, the others these and
    those before them), or in both directions. The masks are an order of factorization, which the model's attention
    reads.

    Source: Lewis et al. 2019, section 4.1, for the shares; after Dong et al. 2019 (UniLM).
    """

    gives_facts: ClassVar[frozenset[str]] = frozenset({ORDER})

    left_to_right: Share = 1 / 6
    right_to_left: Share = 1 / 6
    sequence_to_sequence: Share = 1 / 3
    """Shares of sequences; all others are read in both directions."""
    first: Share = 0.5
    """Share of the tokens of a sequence that is its first part, in sequence to sequence."""

    def __post_init__(self) -> None:
        """Check the shares.

        Raises:
            ValueError: they are over 1.
        """
        if (total := self.left_to_right + self.right_to_left + self.sequence_to_sequence) > 1 + 1e-9:
            raise ValueError(f"left_to_right + right_to_left + sequence_to_sequence is {total:g}, but at most 1")

    def check(self, model: Model) -> None:
        """Check that the model's attention reads the order (ValueError)."""
        super().check(model)
        if ORDER not in model.facts:
            raise ValueError("objectives: MultitaskMaskedLM draws an attention mask for each sequence, which this "
                             "model does not read; take model.attention.mask=Ordered")  # fmt: skip

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example with masks and targets, and the order of its tokens."""
        made = super().prepare_example(example, vocabulary, rng)
        order = self.order(len(made.tokens.ids), rng)
        return Example(made.streams | {"tokens": replace(made.tokens, order=order)}, made.targets)

    def order(self, length: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the order (L,) of a sequence of so many tokens."""
        places, drawn = np.arange(length), rng.random()
        for share, order in (
            (self.left_to_right, places),
            (self.right_to_left, places[::-1]),
            (self.sequence_to_sequence, np.maximum(places - int(self.first * length) + 1, 0)),
        ):
            if drawn < share:
                return order
            drawn -= share
        return 0 * places

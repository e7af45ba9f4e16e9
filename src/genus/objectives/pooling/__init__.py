"""Pooling: from the hidden states of a sequence's tokens to one vector, as sentence-transformers' module of that name.

Legend: T token positions, N sequences, H hidden size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from genus.part import Part

if TYPE_CHECKING:
    from torch import Tensor

    from genus.batch import Packed


class Pooling(Part, ABC):
    """The slot of poolings; special tokens of the template count as tokens."""

    @abstractmethod
    def __call__(self, states_TH: Tensor, packed: Packed, entry_N: Tensor) -> Tensor:
        """Return the vectors (N, H) of sequences, which are entries of `packed.offsets`, given the hidden states."""


class Mean(Pooling):
    """Mean of the states of all tokens (Reimers and Gurevych 2019, section 3)."""

    def __call__(self, states_TH: Tensor, packed: Packed, entry_N: Tensor) -> Tensor:
        """Return the mean over the tokens of each sequence."""
        real_T = packed.sequence >= 0
        sums_JH = states_TH.new_zeros(len(packed.offsets) - 1, states_TH.shape[1])
        sums_JH = sums_JH.index_add(0, packed.sequence.clamp(min=0), states_TH * real_T[:, None])
        return sums_JH[entry_N] / packed.offsets.diff()[entry_N, None]


class First(Pooling):
    """State of the first token, `[CLS]` of an encoder."""

    def __call__(self, states_TH: Tensor, packed: Packed, entry_N: Tensor) -> Tensor:
        """Return the state of the first token of each sequence."""
        return states_TH[packed.offsets[entry_N].long()]


class Last(Pooling):
    """State of the last token, which alone has attended to all of a text under causal attention."""

    def __call__(self, states_TH: Tensor, packed: Packed, entry_N: Tensor) -> Tensor:
        """Return the state of the last token of each sequence."""
        return states_TH[packed.offsets[entry_N + 1].long() - 1]

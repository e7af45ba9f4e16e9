"""The slot `Attention`: parts whose mathematics differs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from genus.part import Part

if TYPE_CHECKING:
    from genus.batch import Packed
    from genus.model.demand import Demand


class Attention(Part, ABC):
    """A choice of attention sub-layer."""

    @property
    def max_length(self) -> int | None:
        """The longest sequence it can serve, None for no end."""
        return None

    def of_layer(self, number: int) -> Attention:
        """Return the choice for the layer of that number, where layers differ."""
        return self

    def check(self, hidden: int) -> None:
        """Refuse a hidden size that this choice cannot serve.

        Raises:
            ValueError: the sizes contradict each other (heads that do not divide the hidden size).
        """

    def replaces(self, other: Attention) -> bool:
        """Whether a run of this one goes on with the weights of the other, in its place."""
        return False

    @abstractmethod
    def build(self, hidden: int) -> AttentionLayer:
        """Return the sub-layer for hidden states of `hidden` numbers."""

    @abstractmethod
    def demand(self, hidden: int, length: int) -> Demand:
        """Return what it needs, for sequences of `length` tokens."""


class AttentionLayer(nn.Module, ABC):
    """An attention sub-layer at work."""

    @abstractmethod
    def prepare(self, packed: Packed) -> Any:
        """Return what the layers of a stack share for this batch (masks, indices); handed to every `forward`."""

    @abstractmethod
    def forward(self, x: Tensor, shared: Any) -> Tensor:
        """Return the sub-layer's output (T, H) for hidden states (T, H)."""

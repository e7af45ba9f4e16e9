"""How layers are stacked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.batch import Packed
    from genus.model.attention import AttentionLayer
    from genus.model.demand import Demand


class Stack(Part, ABC):
    """A choice of how layers make a stack: each its own, shared, reversible."""

    @abstractmethod
    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the stack of `layers` layers that `make` makes: called with (x (T, H), packed), it returns (T, H)."""

    @abstractmethod
    def demand(self, layers: int, each: Demand) -> Demand:
        """Return what a stack of `layers` layers needs, each of which needs `each`."""


class Separate(Stack):
    """One layer after the other, each with weights of its own."""

    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the stack."""
        return SeparateLayers(make() for _ in range(layers))

    def demand(self, layers: int, each: Demand) -> Demand:
        """Return every layer's own."""
        return each.times(layers)


class SeparateLayers(nn.ModuleList):
    """Layers in a row; what attention prepares is prepared once for all of them."""

    def forward(self, x: Tensor, packed: Packed) -> Tensor:
        """Return (T, H)."""
        shared: Any = cast("AttentionLayer", self[0].attention).prepare(packed)
        for layer in self:
            x = layer(x, shared)
        return x

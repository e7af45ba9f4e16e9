"""How layers are stacked."""

from __future__ import annotations

import functools
import itertools
import operator
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.batch import Packed
    from genus.model.attention import AttentionLayer
    from genus.model.demand import Demand
    from genus.model.encoder import Encoder


class Stack(Part, ABC):
    """A choice of how layers make a stack: each its own, shared, reversible."""

    def check(self, model: Encoder) -> None:
        """Refuse a model that this choice cannot serve.

        Raises:
            ValueError: choices contradict each other (more groups than layers).
        """

    def width(self, hidden: int) -> int:
        """Return how many numbers the stack gives a token."""
        return hidden

    @abstractmethod
    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the stack of `layers` layers that `make` makes: called with (x (T, H), packed), it returns (T, H).

        Where a third argument is a list, the embeddings and the output of every layer are appended to it.
        """

    @abstractmethod
    def demand(self, model: Encoder, length: int) -> Demand:
        """Return what the model's layers need, for sequences of `length` tokens."""


class Separate(Stack):
    """One layer after the other, each with weights of its own."""

    @property
    def in_words(self) -> str:
        """The usual case."""
        return ""

    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the stack."""
        return SeparateLayers(make() for _ in range(layers))

    def demand(self, model: Encoder, length: int) -> Demand:
        """Return every layer's own."""
        return each_layer(model, length)


class SeparateLayers(nn.ModuleList):
    """Layers in a row; what attention prepares is prepared once for all of them."""

    def forward(self, x: Tensor, packed: Packed, kept: list[Tensor] | None = None) -> Tensor:
        """Return (T, H)."""
        shared: Any = cast("AttentionLayer", self[0].attention).prepare(packed)
        for layer in self:
            keep(kept, x)
            x = layer(x, shared)
        return keep(kept, x)


def keep(kept: list[Tensor] | None, x: Tensor) -> Tensor:
    """Return hidden states, having appended them to the list if there is one."""
    if kept is not None:
        kept.append(x)
    return x


def each_layer(model: Encoder, length: int) -> Demand:
    """Return what a model's layers need together, when each has weights of its own."""
    alike = itertools.groupby(model.layer(number) for number in range(model.layers))
    return functools.reduce(
        operator.add, (model.block.demand(layer, length).times(len(list(layers))) for layer, layers in alike)
    )

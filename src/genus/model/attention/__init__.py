"""The slot `Attention`: parts whose mathematics differs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from genus.model.initialization import ResidualBranch
from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Hashable

    from torch import Tensor

    from genus.model.attention.plan import Context
    from genus.model.cost import ComponentCost


class Attention(Part, ABC):
    """A choice of attention sub-layer."""

    takes_positions: ClassVar[bool] = False
    """Whether positions may rotate its queries and keys, and add to its scores."""

    crosses: ClassVar[bool] = False
    """Whether it can attend to another stream (cross-attention)."""

    @property
    def max_length(self) -> int | None:
        """The longest sequence it can serve, None for no end."""
        return None

    def of_layer(self, number: int) -> Attention:
        """Return the choice for the layer of that number, where layers differ."""
        return self

    def plan_key(self) -> Hashable:
        """Return what layers with equal plans have in common: one plan is made for all layers of equal keys."""
        return self

    def head_sizes(self, hidden: int) -> tuple[int, int]:
        """Return the number of heads and the size of one, where positions are taken."""
        raise NotImplementedError(f"{type(self).__name__} takes no positions")

    def check(self, hidden: int) -> None:
        """Refuse a hidden size that this choice cannot serve.

        Raises:
            ValueError: the sizes contradict each other (heads that do not divide the hidden size).
        """

    def can_load(self, other: Attention) -> bool:
        """Whether a run of this one goes on with the weights of the other, in its place."""
        return False

    @abstractmethod
    def build(self, hidden: int) -> AttentionLayer:
        """Return the sub-layer for hidden states of `hidden` numbers."""

    @abstractmethod
    def cost(self, hidden: int, length: int) -> ComponentCost:
        """Return what it needs, for sequences of `length` tokens."""

    def cross_demand(self, hidden: int, tokens: int, source: int) -> ComponentCost:
        """Return what it needs per token, of so many, to attend to another stream of `source` tokens."""
        raise NotImplementedError(f"{type(self).__name__} cannot attend to another stream")


class AttentionLayer(ResidualBranch, ABC):
    """The module of an attention sub-layer.

    Its projections are linear maps `query`, `key`, `value` and `out`, unless a choice says otherwise, whose rows (for
    `out`: columns) are heads one after the other. They are reshaped by the size of a head, never by the number of
    heads, so that a module whose maps hold some of the heads computes those.
    """

    choice: Attention
    head_size: int
    """D, numbers of a head."""

    def by_head(self, x: Tensor) -> Tensor:
        """Return (..., A, D) for (..., A D)."""
        return torch.unflatten(x, -1, (-1, self.head_size))

    def by_drawn_head(self, x: Tensor, heads: int) -> Tensor:
        """Return the same, where something is drawn for each head.

        Raises:
            ValueError: the maps hold fewer heads than there are.
        """
        of_heads = self.by_head(x)
        if of_heads.shape[-2] != heads:
            raise ValueError(f"{type(self).__name__} draws for each of its {heads} heads and holds "
                             f"{of_heads.shape[-2]}: it cannot be split by heads")  # fmt: skip
        return of_heads

    def cache_shape(self) -> tuple[int, int] | None:
        """Return the heads and the head size of the keys and values of a token that a cache keeps; None: it cannot."""
        return None

    @abstractmethod
    def plan(self, context: Context) -> Any:
        """Return what the layers of the same choice share in a forward pass (masks, indices)."""

    @abstractmethod
    def forward(self, x: Tensor, plan: Any, state: Any = None) -> Tensor:
        """Return the sub-layer's output (T, H).

        Args:
            x: hidden states (T, H).
            plan: what `plan` of a layer of the same choice returned.
            state: this layer's slice of the cache or of the memory.
        """

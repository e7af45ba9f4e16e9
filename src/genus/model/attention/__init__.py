"""The slot `Attention`: attention sub-layers, and the module that each builds, `AttentionLayer`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from genus.errors import UsageError
from genus.model.initialization import ResidualBranch
from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Hashable

    from torch import Tensor

    from genus.model.attention.plan import Context
    from genus.model.cost import ComponentCost


class Attention(Part, ABC):
    """The slot of attention sub-layers."""

    takes_positions: ClassVar[bool] = False
    """Whether it supports rotary positions and position biases on its scores."""

    takes_rotation: ClassVar[bool] = True
    """Whether rotary positions are among those that it supports."""

    crosses: ClassVar[bool] = False
    """Whether it can attend to another stream (cross-attention)."""

    @property
    def takes_prefix(self) -> bool:
        """Whether trained keys and values can stand in front of those of every sequence (prefix tuning)."""
        return False

    @property
    def max_length(self) -> int | None:
        """Maximum sequence length in tokens; None: unlimited."""
        return None

    def of_layer(self, number: int) -> Attention:
        """Return the attention of layer `number`; by default all layers are alike."""
        return self

    def plan_key(self) -> Hashable:
        """Return the key under which layers share a plan: one plan is made per distinct key."""
        return self

    def head_sizes(self, hidden: int) -> tuple[int, int]:
        """Return A and D, the number of heads and the head size; defined where `takes_positions`."""
        raise NotImplementedError(f"{type(self).__name__} takes no positions")

    def check(self, hidden: int) -> None:
        """Check that the hidden size fits this choice.

        Raises:
            ValueError: the sizes contradict each other (heads that do not divide the hidden size).
        """

    def can_load(self, other: Attention) -> bool:
        """Return whether a run with this attention can start from weights that were trained with `other`."""
        return False

    @abstractmethod
    def build(self, hidden: int) -> AttentionLayer:
        """Return the module for hidden states of size H = `hidden`."""

    @abstractmethod
    def cost(self, hidden: int, length: int) -> ComponentCost:
        """Return the cost per token for sequences of `length` tokens."""

    def cross_cost(self, hidden: int, tokens: int, source: int) -> ComponentCost:
        """Return what it needs per token, of so many, to attend to another stream of `source` tokens."""
        raise NotImplementedError(f"{type(self).__name__} cannot attend to another stream")


class AttentionLayer(ResidualBranch, ABC):
    """The module of an attention sub-layer.

    Unless a choice says otherwise, its projections are linear layers `query`, `key`, `value` and `out`, whose rows (of
    `out`: columns) are ordered by head. They are reshaped by head size, never by number of heads, so that a module
    whose projections hold only some of the heads computes those.
    """

    choice: Attention
    head_size: int
    """D, the head size."""

    @property
    def unit(self) -> int:  # type: ignore[override]
        """D: a head stays together."""
        return self.head_size

    def by_head(self, x: Tensor) -> Tensor:
        """Split the last dimension into heads: return (..., A, D) for (..., A D)."""
        return torch.unflatten(x, -1, (-1, self.head_size))

    def by_drawn_head(self, x: Tensor, heads: int) -> Tensor:
        """Split the last dimension into heads, as `by_head`, in layers that draw random numbers for each head.

        Raises:
            ValueError: the projections do not hold all `heads` heads.
        """
        of_heads = self.by_head(x)
        if of_heads.shape[-2] != heads:
            raise ValueError(f"{type(self).__name__} draws for each of its {heads} heads and holds "
                             f"{of_heads.shape[-2]}: it cannot be split by heads")  # fmt: skip
        return of_heads

    def cache_shape(self) -> tuple[int, int] | None:
        """Return the shape per token of cached keys and values (heads, head size); None: no key-value cache."""
        return None

    def weights(self, x: Tensor, plan: Any) -> Tensor:
        """Return the attention weights of every pair of places of a row (R, A, Q, K), given `forward`'s arguments.

        Raises:
            UsageError: this kind of attention has none; here it has not.
        """
        raise UsageError(f"{type(self.choice).__name__} has no weight for each pair of tokens; take a model with "
                         "multi-head attention")  # fmt: skip

    @abstractmethod
    def plan(self, context: Context) -> Any:
        """Return what the layers of the same choice share in a forward pass: masks, gather indices."""

    @abstractmethod
    def forward(self, x: Tensor, plan: Any, state: Any = None) -> Tensor:
        """Forward pass: return the sub-layer's output (T, H).

        Args:
            x: hidden states (T, H).
            plan: what `plan` of a layer of the same choice returned.
            state: this layer's slice of the key-value cache or of the memory.
        """

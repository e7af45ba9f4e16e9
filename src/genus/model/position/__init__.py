"""The slot of positions: absolute position embeddings, rotary positions, position biases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from genus.model.cost import ComponentCost
from genus.part import Part

if TYPE_CHECKING:
    from genus.model.position.bias import PositionBias
    from genus.model.position.rotary import RotaryPositions


class Position(Part, ABC):
    """The slot of positional information: added to embeddings, or by attention (rotary positions, biases on scores)."""

    @property
    @abstractmethod
    def max_length(self) -> int | None:
        """Maximum sequence length in tokens; None: unlimited."""

    def check(self, size: int) -> None:
        """Check that the embedding size fits this choice.

        Raises:
            ValueError: the sizes contradict each other.
        """

    @abstractmethod
    def build(self, size: int) -> nn.Module:
        """Return a module from positions (T,), counted from 0, to vectors (T, size) to be added to the embeddings."""

    rotates: ClassVar[bool] = False
    """Whether it rotates queries and keys (rotary positions)."""
    biases: ClassVar[bool] = False
    """Whether it adds a bias to the attention scores."""

    def rotation(self, head_size: int) -> RotaryPositions | None:
        """Return a module from positions (T,) to the rotation of queries and keys of D = `head_size`; None: none."""
        return None

    def bias(self, heads: int, hidden: int) -> PositionBias | None:
        """Return a module from queries' and keys' positions to a bias on the attention scores; None: no bias.

        Args:
            heads: A.
            hidden: H, by which learned biases are drawn.
        """
        return None

    def bias_cost(self, heads: int) -> ComponentCost:
        """Return the cost of the bias on the attention scores."""
        return ComponentCost()

    @abstractmethod
    def cost(self, size: int) -> ComponentCost:
        """Return the cost of the vectors that are added to the embeddings."""


class NoPosition(Position):
    """No position embedding, for models whose attention depends on relative positions."""

    @property
    def in_words(self) -> str:
        """Empty, as there is no position embedding."""
        return ""

    @property
    def max_length(self) -> int | None:
        """None: unlimited."""
        return None

    def build(self, size: int) -> nn.Module:
        """Return a module whose output is 0."""
        return NoPositions()

    def cost(self, size: int) -> ComponentCost:
        """Return a cost of 0."""
        return ComponentCost()


class NoPositions(nn.Module):
    """The module of `NoPosition`: 0 for every position."""

    def forward(self, positions: Tensor) -> Tensor:
        """Return a scalar 0, which broadcasts over embeddings."""
        return torch.zeros((), device=positions.device)

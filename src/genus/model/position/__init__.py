"""Position slot: what is added to token embeddings for the position."""

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
    """A choice of how a token's place in its sequence reaches the model."""

    @property
    @abstractmethod
    def max_length(self) -> int | None:
        """The longest sequence there are positions for, None for no end."""

    def check(self, size: int) -> None:
        """Refuse an embedding size that this choice cannot serve.

        Raises:
            ValueError: the sizes contradict each other.
        """

    @abstractmethod
    def build(self, size: int) -> nn.Module:
        """Return a module from positions (T,), counted from 0, to vectors (T, size) that are added to embeddings."""

    rotates: ClassVar[bool] = False
    """Whether it rotates queries and keys."""
    biases: ClassVar[bool] = False
    """Whether it adds to the scores of attention."""

    def rotation(self, head_size: int) -> RotaryPositions | None:
        """Return a module from positions (T,) to the rotation of queries and keys of that many numbers a head."""
        return None

    def bias(self, heads: int) -> PositionBias | None:
        """Return a module from both sides of attention to what is added to the scores."""
        return None

    def bias_demand(self, heads: int) -> ComponentCost:
        """Return what the bias needs."""
        return ComponentCost()

    @abstractmethod
    def cost(self, size: int) -> ComponentCost:
        """Return what it needs."""


class NoPosition(Position):
    """Nothing: attention itself knows how far tokens are apart."""

    @property
    def in_words(self) -> str:
        """Nothing."""
        return ""

    @property
    def max_length(self) -> int | None:
        """No end."""
        return None

    def build(self, size: int) -> nn.Module:
        """Return the module."""
        return NoPositions()

    def cost(self, size: int) -> ComponentCost:
        """Return nothing."""
        return ComponentCost()


class NoPositions(nn.Module):
    """Zero, wherever a token stands."""

    def forward(self, positions: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros((), device=positions.device)

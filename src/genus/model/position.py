"""Position encodings: added to token embeddings, rotating queries and keys, or biasing the scores of attention."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from genus.model.demand import Demand
from genus.part import Count, Natural, Part

if TYPE_CHECKING:
    from genus.model.position_bias import PositionBias
    from genus.model.rotary import RotaryPositions


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

    def bias_demand(self, heads: int) -> Demand:
        """Return what the bias needs."""
        return Demand()

    @abstractmethod
    def demand(self, size: int) -> Demand:
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

    def demand(self, size: int) -> Demand:
        """Return nothing."""
        return Demand()


class NoPositions(nn.Module):
    """Zero, wherever a token stands."""

    def forward(self, positions: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros((), device=positions.device)


class Learned(Position):
    """One learned vector a position (BERT, section 3).

    `offset` rows stand unused before position 0: RoBERTa's code counts positions from its padding id + 1 = 2, so that
    its table for 512 positions has 514 rows, and checkpoints are laid out so.
    """

    length: Count = 512
    offset: Natural = 0

    @property
    def in_words(self) -> str:
        """How many there are."""
        return f"learned position ({self.length})"

    @property
    def max_length(self) -> int | None:
        """The table's length."""
        return self.length

    def build(self, size: int) -> nn.Module:
        """Return the table."""
        return LearnedPositions(self.length, self.offset, size)

    def demand(self, size: int) -> Demand:
        """Return the table."""
        return Demand(parameters=(self.length + self.offset) * size)


class LearnedPositions(nn.Module):
    """A table of position vectors."""

    def __init__(self, length: int, offset: int, size: int) -> None:
        super().__init__()
        self.offset = offset
        self.table = nn.Embedding(length + offset, size)

    def forward(self, positions: Tensor) -> Tensor:
        """Return (T, size) vectors of positions (T,)."""
        return self.table(positions + self.offset)  # type: ignore[no-any-return]

"""Learned absolute position embeddings: one table, or axial tables over a grid."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from genus.model.cost import ComponentCost
from genus.model.position import Position
from genus.part import Count, Natural, NotNegative


class LearnedPosition(Position):
    """Learned absolute position embedding: one vector per position (BERT, section 3).

    The first `offset` rows of the table are unused: RoBERTa's code counts positions from its padding id + 1 = 2, so
    that its table for 512 positions has 514 rows, as in its checkpoints.
    """

    length: Count = 512
    offset: Natural = 0

    @property
    def in_words(self) -> str:
        """The kind of position, and the number of positions."""
        return f"learned position ({self.length})"

    @property
    def max_length(self) -> int | None:
        """The number of positions in the table."""
        return self.length

    def build(self, size: int) -> nn.Module:
        """Return the module, a table of vectors of dimension `size`."""
        return LearnedPositions(self.length, self.offset, size)

    def cost(self, size: int) -> ComponentCost:
        """Return the parameters of the table."""
        return ComponentCost(parameters=(self.length + self.offset) * size)


class LearnedPositions(nn.Module):
    """The module of a learned position embedding."""

    def __init__(self, length: int, offset: int, size: int) -> None:
        super().__init__()
        self.offset = offset
        self.table = nn.Embedding(length + offset, size)

    def forward(self, positions: Tensor) -> Tensor:
        """Return position embeddings (T, size) of positions (T,)."""
        return self.table(positions + self.offset)  # type: ignore[no-any-return]


class AxialPosition(Position):
    """Axial position embedding: [u_i, w_j] at position p = i n₂ + j of an n₁ x n₂ grid; likewise for more axes.

    So n₁ + n₂ vectors serve n₁ n₂ positions.

    Source: Kitaev et al. 2020, section 5 and released code (position_encodings.py, AxialPositionalEncoding).
    """

    shape: tuple[Count, ...]
    """n₁, n₂, ...: their product is the maximum sequence length."""
    widths: tuple[Count, ...]
    """Dimension of the vectors of each axis; they sum to the embedding size."""
    std: NotNegative = 1.0
    """Standard deviation of the normal distribution of the initial vectors."""

    def __post_init__(self) -> None:
        """Check the grid.

        Raises:
            ValueError: `shape` and `widths` differ in length, or are empty.
        """
        if len(self.shape) != len(self.widths) or not self.shape:
            raise ValueError(f"position: shape {list(self.shape)} and widths {list(self.widths)}: expected a number "
                             "of each for every axis, and one axis at least")  # fmt: skip

    @property
    def max_length(self) -> int | None:
        """The number of positions of the grid."""
        return math.prod(self.shape)

    def build(self, size: int) -> nn.Module:
        """Return the module, with one table per axis."""
        return AxialPositions(self)

    def check(self, size: int) -> None:
        """Check that the widths sum to the embedding size (ValueError)."""
        if sum(self.widths) != size:
            raise ValueError(f"position.widths: {list(self.widths)} sum to {sum(self.widths)}, not to {size}, "
                             "the embedding size")  # fmt: skip

    def cost(self, size: int) -> ComponentCost:
        """Return the parameters of one table per axis."""
        return ComponentCost(parameters=sum(n * width for n, width in zip(self.shape, self.widths, strict=True)))


class AxialPositions(nn.Module):
    """The module of an axial position embedding."""

    def __init__(self, choice: AxialPosition) -> None:
        super().__init__()
        self.shape = choice.shape
        self.tables = nn.ParameterList()
        for axis, (number, width) in enumerate(zip(choice.shape, choice.widths, strict=True)):
            shape = [number if other == axis else 1 for other in range(len(choice.shape))]
            self.tables.append(nn.Parameter(torch.empty(*shape, width).normal_(std=choice.std)))

    def forward(self, positions: Tensor) -> Tensor:
        """Return position embeddings (T, E) of positions (T,)."""
        parts = []
        for table, number in zip(reversed(self.tables), reversed(self.shape), strict=True):
            parts.append(table.flatten(0, -2)[positions % number])
            positions = positions // number
        return torch.cat(parts[::-1], -1)

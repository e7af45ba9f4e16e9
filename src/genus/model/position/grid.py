"""Learned positions of a text and then of an image: a vector for each place of the text, each row and each column."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genus.model.cost import ComponentCost
from genus.model.position import Position
from genus.part import Count


class TextThenGrid(Position):
    """Learned positions u_p of a text of `text` places, then v_r + w_c of code (r, c) of an n x n grid, row by row.

    Source: Ramesh et al. 2021, appendix B.1 and figure 10.
    """

    text: Count = 256
    """Places of the text."""
    grid: Count = 32
    """n, codes of each side of an image."""

    @property
    def in_words(self) -> str:
        """The kind of position."""
        return f"learned position ({self.text}), rows and columns ({self.grid})"

    @property
    def max_length(self) -> int | None:
        """The places of the text and the codes."""
        return self.text + self.grid**2

    def build(self, size: int) -> nn.Module:
        """Return the module, with a table for the text, one for rows and one for columns."""
        return TextThenGridPositions(self, size)

    def cost(self, size: int) -> ComponentCost:
        """Return the parameters of the tables."""
        return ComponentCost(parameters=(self.text + 2 * self.grid) * size)


class TextThenGridPositions(nn.Module):
    """The module of `TextThenGrid`."""

    def __init__(self, choice: TextThenGrid, size: int) -> None:
        super().__init__()
        self.text, self.grid = choice.text, choice.grid
        self.places = nn.Embedding(choice.text, size)
        self.rows, self.columns = nn.Embedding(choice.grid, size), nn.Embedding(choice.grid, size)

    def forward(self, positions: Tensor) -> Tensor:
        """Return position embeddings (T, size) of positions (T,)."""
        code = (positions - self.text).clamp(min=0)
        of_code = self.rows((code // self.grid).clamp(max=self.grid - 1)) + self.columns(code % self.grid)
        of_text = self.places(positions.clamp(max=self.text - 1))
        return torch.where((positions < self.text)[:, None], of_text, of_code)

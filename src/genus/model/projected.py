"""Token embeddings of a width of their own, projected only where the hidden states have another.

Legend: T tokens, E embedding size, H hidden size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from genus.model.demand import Demand, linear
from genus.model.embed import Embed, Embedding

if TYPE_CHECKING:
    from genus.batch import Packed


class Projected(Embedding):
    """W d(norm(token + segment + position)) + b, from E numbers to H, with d dropout; without W and b where E = H.

    So networks of several widths can share their tables (Clark et al. 2020, ELECTRA, section 3.2; released code,
    modeling.py, embeddings_project). ALBERT's `Factorized` has its projection always.
    """

    size: int
    """E, the width of the tables."""

    @property
    def in_words(self) -> str:
        """What is summed, and how wide."""
        return f"{super().in_words}, {self.size} wide"

    def width(self, hidden: int) -> int:
        """Return E."""
        return self.size

    def build(self, vocab_size: int, hidden: int) -> ProjectedEmbed:
        """Return the module."""
        return ProjectedEmbed(self, vocab_size, hidden)

    def demand(self, vocab_size: int, hidden: int) -> Demand:
        """Return the tables, and the projection where there is one."""
        return super().demand(vocab_size, hidden) + projection_demand(self.size, hidden)


class ProjectedEmbed(Embed):
    """Embeddings at work, with their projection if they need one."""

    def __init__(self, choice: Projected, vocab_size: int, hidden: int) -> None:
        super().__init__(choice, vocab_size, hidden)
        self.projection = projection(choice.size, hidden)

    def forward(self, packed: Packed) -> Tensor:
        """Return vectors (T, H) of the packed tokens."""
        return self.projection(self.vectors(packed))  # type: ignore[no-any-return]


def projection(size: int, hidden: int) -> nn.Module:
    """Return the map from (T, E) to (T, H): what comes in where the two are equal."""
    return nn.Identity() if size == hidden else nn.Linear(size, hidden)


def projection_demand(size: int, hidden: int) -> Demand:
    """Return what the map demands."""
    return Demand() if size == hidden else linear(size, hidden)

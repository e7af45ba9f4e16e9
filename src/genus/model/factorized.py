"""Token embeddings narrower than the hidden states.

Legend: T tokens, E embedding size, H hidden size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from genus.model.demand import Demand, linear
from genus.model.embed import Embed, Embedding
from genus.part import Count

if TYPE_CHECKING:
    from genus.batch import Packed


class Factorized(Embedding):
    """W d(norm(token + segment + position)) + b, from E numbers to H, with d dropout (ALBERT, section 3.1).

    V x E + E x H parameters instead of V x H; output heads that share the token table are E wide too.
    """

    size: Count
    """E, the width of the tables."""

    @property
    def in_words(self) -> str:
        """What is summed, and how wide."""
        return f"{super().in_words}, {self.size} wide"

    def width(self, hidden: int) -> int:
        """Return E."""
        return self.size

    def projection(self, hidden: int) -> nn.Module:
        """Return the map from (T, E) to (T, H)."""
        return nn.Linear(self.size, hidden)

    def projecting(self, hidden: int) -> Demand:
        """Return what the map demands."""
        return linear(self.size, hidden)

    def build(self, vocab_size: int, hidden: int) -> FactorizedEmbed:
        """Return the module."""
        return FactorizedEmbed(self, vocab_size, hidden)

    def demand(self, vocab_size: int, hidden: int) -> Demand:
        """Return the tables and the projection."""
        return super().demand(vocab_size, hidden) + self.projecting(hidden)


class FactorizedEmbed(Embed):
    """Embeddings at work, with their projection."""

    def __init__(self, choice: Factorized, vocab_size: int, hidden: int) -> None:
        super().__init__(choice, vocab_size, hidden)
        self.projection = choice.projection(hidden)

    def forward(self, packed: Packed) -> Tensor:
        """Return vectors (T, H) of the packed tokens."""
        return self.projection(self.vectors(packed))  # type: ignore[no-any-return]

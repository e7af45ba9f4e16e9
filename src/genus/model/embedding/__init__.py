"""Ids to vectors: token, segment and position embeddings, summed.

Legend: T tokens, V vocabulary, E embedding size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from genus.model.cost import ComponentCost
from genus.model.norm import LayerNorm, Norm
from genus.model.position import Position
from genus.model.position.learned import LearnedPosition
from genus.part import Fraction, Natural, Part

if TYPE_CHECKING:
    from genus.batch import Packed


class Embedding(Part):
    """norm(token + segment + position), then dropout (BERT, section 3 and figure 2)."""

    segments: Natural = 2
    """How many segment vectors; 0 for none."""
    position: Position = LearnedPosition()
    norm: Norm = LayerNorm()
    dropout: Fraction = 0.1

    @property
    def in_words(self) -> str:
        """What is summed."""
        summed = ["token", *(["segment"] if self.segments > 1 else []), self.position.in_words]
        return " + ".join(part for part in summed if part)

    @property
    def facts(self) -> frozenset[str]:
        """Names of the facts of tokens that are embedded."""
        return frozenset({"segment"} if self.segments else ())

    @property
    def num_tasks(self) -> int | None:
        """How many task vectors there are; None: the task is not asked for."""
        return None

    def width(self, hidden: int) -> int:
        """Return the width of the tables: here that of the hidden states."""
        return hidden

    def table(self, vocab_size: int, size: int) -> nn.Embedding:
        """Return the token table."""
        return nn.Embedding(vocab_size, size)

    def build(self, vocab_size: int, hidden: int) -> EmbeddingModule:
        """Return the module, from packed tokens to vectors of `hidden` numbers."""
        return EmbeddingModule(self, vocab_size, hidden)

    def cost(self, vocab_size: int, hidden: int) -> ComponentCost:
        """Return the tables and the norm."""
        size = self.width(hidden)
        return ComponentCost((vocab_size + self.segments) * size) + self.position.cost(size) + self.norm.cost(size)


class EmbeddingModule(nn.Module):
    """Embeddings at work."""

    def __init__(self, choice: Embedding, vocab_size: int, hidden: int) -> None:
        super().__init__()
        size = choice.width(hidden)
        self.tokens = choice.table(vocab_size, size)
        self.segments = nn.Embedding(choice.segments, size) if choice.segments else None
        self.positions = choice.position.build(size)
        self.norm = choice.norm.build(size)
        self.dropout = nn.Dropout(choice.dropout)

    def forward(self, packed: Packed) -> Tensor:
        """Return vectors (T, H) of the packed tokens; here E is H."""
        return self.vectors(packed)

    def vectors(self, packed: Packed) -> Tensor:
        """Return vectors (T, E) as the tables give them, which another network may share."""
        return self.dropout(self.norm(self.total(packed)))  # type: ignore[no-any-return]

    def total(self, packed: Packed) -> Tensor:
        """Return the sum of the embeddings (T, E)."""
        x_TE: Tensor = self.tokens(packed.ids) + self.positions(packed.positions)
        return x_TE if self.segments is None else x_TE + self.segments(packed.facts["segment"])

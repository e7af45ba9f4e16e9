"""Embeddings with a factorized or projected table, with task vectors, or with dropout before the sum.

Legend: T tokens, V vocabulary, E embedding size, H hidden size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genus.model.cost import ComponentCost, linear_cost
from genus.model.embedding import Embedding, EmbeddingModule
from genus.part import Count

if TYPE_CHECKING:
    from genus.batch import Packed


class FactorizedEmbedding(Embedding):
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

    def projecting(self, hidden: int) -> ComponentCost:
        """Return what the map demands."""
        return linear_cost(self.size, hidden)

    def build(self, vocab_size: int, hidden: int) -> FactorizedEmbeddingModule:
        """Return the module."""
        return FactorizedEmbeddingModule(self, vocab_size, hidden)

    def cost(self, vocab_size: int, hidden: int) -> ComponentCost:
        """Return the tables and the projection."""
        return super().cost(vocab_size, hidden) + self.projecting(hidden)


class FactorizedEmbeddingModule(EmbeddingModule):
    """Embeddings at work, with their projection."""

    def __init__(self, choice: FactorizedEmbedding, vocab_size: int, hidden: int) -> None:
        super().__init__(choice, vocab_size, hidden)
        self.projection = choice.projection(hidden)

    def forward(self, packed: Packed) -> Tensor:
        """Return vectors (T, H) of the packed tokens."""
        return self.projection(self.vectors(packed))  # type: ignore[no-any-return]


class TaskEmbedding(Embedding):
    """norm(token + segment + position + task), then dropout (Sun et al. 2019, ERNIE 2.0, section 3.2 and figure 3).

    Each task of pretraining has a vector; in fine-tuning any will do, and it is that of task 0.
    """

    tasks: Count
    """How many task vectors."""

    @property
    def in_words(self) -> str:
        """What is summed."""
        return f"{super().in_words} + task"

    @property
    def num_tasks(self) -> int:
        """As many as there are vectors."""
        return self.tasks

    def build(self, vocab_size: int, hidden: int) -> TaskEmbeddingModule:
        """Return the module."""
        return TaskEmbeddingModule(self, vocab_size, hidden)

    def cost(self, vocab_size: int, hidden: int) -> ComponentCost:
        """Return the tables and the norm."""
        return super().cost(vocab_size, hidden) + ComponentCost(self.tasks * self.width(hidden))


class TaskEmbeddingModule(EmbeddingModule):
    """Embeddings with a task vector at work."""

    def __init__(self, choice: TaskEmbedding, vocab_size: int, hidden: int) -> None:
        super().__init__(choice, vocab_size, hidden)
        self.tasks = nn.Embedding(choice.tasks, choice.width(hidden))

    def total(self, packed: Packed) -> Tensor:
        """Return the sum (T, E), the vector of the packed tokens' task included."""
        task = packed.facts.get("task")
        of_task: Tensor = self.tasks(torch.zeros_like(packed.ids[:1]) if task is None else task)
        return super().total(packed) + of_task


class EarlyDropoutEmbedding(Embedding):
    """norm(dropout(token + segment + position)), as in BigBird (released code: core/utils.py and core/encoder.py).

    Without dropout it is BERT's, which drops numbers after the norm.
    """

    def build(self, vocab_size: int, hidden: int) -> EarlyDropoutEmbeddingModule:
        """Return the module."""
        return EarlyDropoutEmbeddingModule(self, vocab_size, hidden)


class EarlyDropoutEmbeddingModule(EmbeddingModule):
    """Embeddings with early dropout at work."""

    def vectors(self, packed: Packed) -> Tensor:
        """Return vectors (T, E)."""
        return self.norm(self.dropout(self.total(packed)))  # type: ignore[no-any-return]


class ProjectedEmbedding(FactorizedEmbedding):
    """W d(norm(token + segment + position)) + b, from E numbers to H, with d dropout; without W and b where E = H.

    So networks of several widths can share their tables (Clark et al. 2020, ELECTRA, section 3.2; released code,
    modeling.py, embeddings_project). ALBERT's `FactorizedEmbedding` has its projection always.
    """

    def projection(self, hidden: int) -> nn.Module:
        """Return the map from (T, E) to (T, H): what comes in where the two are equal."""
        return nn.Identity() if self.size == hidden else super().projection(hidden)

    def projecting(self, hidden: int) -> ComponentCost:
        """Return what the map demands."""
        return ComponentCost() if self.size == hidden else super().projecting(hidden)

"""Embeddings with a factorized or projected table, with task embeddings, or with dropout before the norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genus.model.cost import ComponentCost, linear_cost
from genus.model.embedding import Embedding, EmbeddingModule
from genus.part import Count

if TYPE_CHECKING:
    from genus.batch import Packed
    from genus.model.cost import ExampleLengths


class FactorizedEmbedding(Embedding):
    """Factorized embedding: W dropout(norm(token + segment + position)) + b, from dimension E to H (ALBERT).

    It has V E + E H parameters instead of V H; output heads with tied weights have dimension E too (section 3.1).
    """

    size: Count
    """E, the embedding size."""

    @property
    def in_words(self) -> str:
        """The embeddings that are summed, and their dimension."""
        return f"{super().in_words}, {self.size} wide"

    def width(self, hidden: int) -> int:
        """Return E, the embedding size."""
        return self.size

    def projection(self, hidden: int) -> nn.Module:
        """Return the projection from (T, E) to (T, H)."""
        return nn.Linear(self.size, hidden)

    def projecting(self, hidden: int) -> ComponentCost:
        """Return the cost per token of the projection."""
        return linear_cost(self.size, hidden)

    def build(self, vocab_size: int, hidden: int) -> FactorizedEmbeddingModule:
        """Return the module, from packed sequences to vectors (T, H), with H = `hidden`."""
        return FactorizedEmbeddingModule(self, vocab_size, hidden)

    def cost(self, vocab_size: int, hidden: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of the tables, the norm and the projection."""
        return super().cost(vocab_size, hidden, lengths) + self.projecting(hidden)


class FactorizedEmbeddingModule(EmbeddingModule):
    """The module of a `FactorizedEmbedding`."""

    def __init__(self, choice: FactorizedEmbedding, vocab_size: int, hidden: int) -> None:
        super().__init__(choice, vocab_size, hidden)
        self.projection = choice.projection(hidden)

    def forward(self, packed: Packed) -> Tensor:
        """Forward pass: return embeddings (T, H) of packed sequences."""
        return self.projection(self.vectors(packed))  # type: ignore[no-any-return]


class TaskEmbedding(Embedding):
    """Embedding dropout(norm(token + segment + position + task)) of ERNIE 2.0, one task embedding per pretraining task.

    In fine-tuning any task embedding may be used; it is that of task 0.

    Source: Sun et al. 2019, section 3.2 and figure 3.
    """

    tasks: Count
    """Number of task embeddings."""

    @property
    def in_words(self) -> str:
        """The embeddings that are summed."""
        return f"{super().in_words} + task"

    @property
    def num_tasks(self) -> int:
        """Number of task embeddings."""
        return self.tasks

    def build(self, vocab_size: int, hidden: int) -> TaskEmbeddingModule:
        """Return the module, from packed sequences to vectors (T, H), with H = `hidden`."""
        return TaskEmbeddingModule(self, vocab_size, hidden)

    def cost(self, vocab_size: int, hidden: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of the tables and the norm."""
        return super().cost(vocab_size, hidden, lengths) + ComponentCost(self.tasks * self.width(hidden))


class TaskEmbeddingModule(EmbeddingModule):
    """The module of a `TaskEmbedding`."""

    def __init__(self, choice: TaskEmbedding, vocab_size: int, hidden: int) -> None:
        super().__init__(choice, vocab_size, hidden)
        self.tasks = nn.Embedding(choice.tasks, choice.width(hidden))

    def total(self, packed: Packed) -> Tensor:
        """Return the sum of the embeddings (T, E), task embedding included."""
        task = packed.facts.get("task")
        of_task: Tensor = self.tasks(torch.zeros_like(packed.ids[:1]) if task is None else task)
        return super().total(packed) + of_task


class EarlyDropoutEmbedding(Embedding):
    """Embedding norm(dropout(token + segment + position)) of BigBird (released code: core/utils.py, core/encoder.py).

    BERT's `Embedding` applies dropout after the norm; without dropout both are the same.
    """

    def build(self, vocab_size: int, hidden: int) -> EarlyDropoutEmbeddingModule:
        """Return the module, from packed sequences to vectors (T, H), with H = `hidden`."""
        return EarlyDropoutEmbeddingModule(self, vocab_size, hidden)


class EarlyDropoutEmbeddingModule(EmbeddingModule):
    """The module of an `EarlyDropoutEmbedding`."""

    def vectors(self, packed: Packed) -> Tensor:
        """Return normalized embeddings (T, E)."""
        return self.norm(self.dropout(self.total(packed)))  # type: ignore[no-any-return]


class ProjectedEmbedding(FactorizedEmbedding):
    """Factorized embedding without projection where E = H: W dropout(norm(token + segment + position)) + b otherwise.

    So networks of different hidden sizes can share embeddings (Clark et al. 2020, ELECTRA, section 3.2; released code,
    modeling.py, embeddings_project). ALBERT's `FactorizedEmbedding` always has a projection.
    """

    def projection(self, hidden: int) -> nn.Module:
        """Return the projection from (T, E) to (T, H): the identity where E = H."""
        return nn.Identity() if self.size == hidden else super().projection(hidden)

    def projecting(self, hidden: int) -> ComponentCost:
        """Return the cost per token of the projection."""
        return ComponentCost() if self.size == hidden else super().projecting(hidden)

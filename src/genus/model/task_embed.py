"""Embeddings that know which task a batch is for.

Legend: T tokens, E embedding size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from genus.model.demand import Demand
from genus.model.embed import Embed, Embedding
from genus.part import Count

if TYPE_CHECKING:
    from genus.batch import Packed


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
    def known_tasks(self) -> int:
        """As many as there are vectors."""
        return self.tasks

    def build(self, vocab_size: int, hidden: int) -> TaskEmbed:
        """Return the module."""
        return TaskEmbed(self, vocab_size, hidden)

    def demand(self, vocab_size: int, hidden: int) -> Demand:
        """Return the tables and the norm."""
        return super().demand(vocab_size, hidden) + Demand(self.tasks * self.width(hidden))


class TaskEmbed(Embed):
    """Embeddings with a task vector at work."""

    def __init__(self, choice: TaskEmbedding, vocab_size: int, hidden: int) -> None:
        super().__init__(choice, vocab_size, hidden)
        self.tasks = nn.Embedding(choice.tasks, choice.width(hidden))

    def total(self, packed: Packed) -> Tensor:
        """Return the sum (T, E), the vector of the packed tokens' task included."""
        of_task: Tensor = self.tasks(packed.ids.new_full((1,), packed.task))
        return super().total(packed) + of_task

"""Station 8, a pretrained network to answers: the slot `Task`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from genus.errors import UsageError
from genus.evaluate.metrics import Metric
from genus.objectives.supervised import FineTuned
from genus.part import Fraction, Part, slots_of
from genus.tasks.dataset import normalize_label, targets
from genus.tasks.encode import encode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.tasks.dataset import Label, LabeledRow
    from genus.tasks.encode import EncodedTexts
    from genus.tokens.tokenizer import Tokenizer


class Task(Part, ABC):
    """A choice of what is learned from the rows of a table."""

    learns: ClassVar[type[FineTuned]]
    """The kind of its objective."""
    level: ClassVar[str] = "row"
    """What has a label: a row, or a word."""

    texts: tuple[str, ...] = ("text",)
    """The column of the text, or the two of a pair."""
    label: str = "label"
    """The column of the label."""
    metrics: tuple[Metric, ...]
    """The first one chooses the best weights."""
    dropout: Fraction = 0.1
    """On what the last linear map reads, in training."""

    def __post_init__(self) -> None:
        """Refuse a task without text, or with more than a pair; without a metric, or with one of other labels."""
        if len(self.texts) not in (1, 2):
            raise UsageError(f"texts: expected one column, or two for pairs, got {len(self.texts)}")
        if not self.metrics:
            raise UsageError("metrics: expected at least one, by which the best weights are chosen")
        for metric in self.metrics:
            if metric.level != self.level:
                raise UsageError(
                    f"metrics: {metric.name} judges a label of each {metric.level}, not of each {self.level}"
                )

    def read(self, row: dict[str, Any]) -> tuple[tuple[str, ...], Label | None]:
        """Return texts and label of a row of a table, which has the columns of the texts.

        Raises:
            ValueError: the columns hold something else.
        """
        texts = tuple("" if row[column] is None else str(row[column]) for column in self.texts)
        return texts, normalize_label(row.get(self.label))

    @abstractmethod
    def objective(self, labels: Sequence[str]) -> FineTuned:
        """Return what is learned, given the labels of the training rows."""

    def resolved_for(self, objective: FineTuned) -> Task:
        """Return the task with what it leaves open chosen for what is learned."""
        return self

    def encode(
        self,
        tokenizer: Tokenizer,
        rows: Sequence[LabeledRow],
        objective: FineTuned,
        max_length: int,
        path: Path | None = None,
    ) -> EncodedTexts:
        """Return what the network reads of the rows of a table.

        Raises:
            GenusError: a label that is none of the objective's, or no room for text.
        """
        labels = targets(rows, objective, path)
        return encode(tokenizer, [row.texts for row in rows], labels, objective.name, max_length)


def task_of(objective: FineTuned) -> Task:
    """Return the task that has an objective of that kind, with its usual columns and metrics."""
    kinds: list[Any] = list(slots_of(Task).values())  # type: ignore[type-abstract]  # a slot is abstract
    task: Task = next(kind() for kind in kinds if kind.learns is type(objective))
    return task.resolved_for(objective)

"""Station 8, fine-tuning on supervised tasks and prediction: the slot `Task`."""

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
    """A choice of supervised task: the columns of a table, the objective that they train and the metrics."""

    learns: ClassVar[type[FineTuned]]
    """Class of the task's objective."""
    level: ClassVar[str] = "row"
    """What has a label: `row` or `word`."""

    texts: tuple[str, ...] = ("text",)
    """The column of the text, or the two columns of a text pair."""
    label: str = "label"
    """The column of the label."""
    metrics: tuple[Metric, ...]
    """The first one selects the best weights in validation."""
    dropout: Fraction | None = None
    """Dropout probability of the input of the last linear layer, in training; None: that of the settings."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: other than one or two text columns; no metric, or one for labels of another level.
        """
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
        """Return texts and label of a row of a table; the row must have the columns of the texts.

        Raises:
            ValueError: a column holds something else.
        """
        texts = tuple("" if row[column] is None else str(row[column]) for column in self.texts)
        return texts, normalize_label(row.get(self.label))

    @abstractmethod
    def objective(self, labels: Sequence[str]) -> FineTuned:
        """Return the fine-tuning objective for the labels of the training rows."""

    def resolved_for(self, objective: FineTuned) -> Task:
        """Return the task with its open choices made for the objective."""
        return self

    def encode(
        self,
        tokenizer: Tokenizer,
        rows: Sequence[LabeledRow],
        objective: FineTuned,
        max_length: int,
        path: Path | None = None,
    ) -> EncodedTexts:
        """Tokenize the rows of a table, truncated to `max_length` tokens.

        Raises:
            GenusError: a label that is none of the objective's, or `max_length` leaves no room for text.
        """
        labels = targets(rows, objective, path)
        return encode(tokenizer, [row.texts for row in rows], labels, objective.name, max_length)


def task_of(objective: FineTuned) -> Task:
    """Return the task for an objective of that class, with default columns and metrics."""
    kinds: list[Any] = list(slots_of(Task).values())  # type: ignore[type-abstract]  # a slot is abstract
    task: Task = next(kind() for kind in kinds if kind.learns is type(objective))
    return task.resolved_for(objective)

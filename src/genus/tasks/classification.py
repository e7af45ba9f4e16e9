"""Sequence classification: single texts and text pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from genus.errors import GenusError
from genus.evaluate.metrics import Accuracy, Metric
from genus.objectives.supervised.contrastive import SupervisedContrastive
from genus.objectives.supervised.sequence import SequenceClassification
from genus.part import Positive, Share
from genus.tasks import Task
from genus.tasks.checks import contradictory, leak, mostly_once, overlap, rare, repeated, skewed, spellings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from genus.objectives.supervised import FineTuned
    from genus.tasks.dataset import LabeledRow


class Classification(Task):
    """Sequence classification: each text or pair has one of the classes that occur in the training rows."""

    learns: ClassVar = SequenceClassification
    answers: ClassVar = "classify"
    judged: ClassVar[tuple[str, ...]] = ("classes",)
    checks: ClassVar = (overlap, repeated, contradictory, skewed, rare, spellings, leak)
    augmentable: ClassVar = True

    metrics: tuple[Metric, ...] = (Accuracy(),)

    def objective(self, labels: Sequence[str]) -> SequenceClassification:
        """Return the classification objective, with the classes sorted as by `classes`.

        Raises:
            GenusError: there is only one class.
        """
        found = classes(labels, self.label)
        return SequenceClassification(labels=found, texts=self.texts_each, symmetric=self.symmetric)

    def remark(self, rows: Sequence[LabeledRow]) -> str:
        """Return a line on labels that seem to be numbers or names of rows: most have a class of their own."""
        found = {label for row in rows for label in row.labels}
        if not mostly_once(found, len(rows)):
            return ""
        return (
            f"column {self.label!r}: {len(found):,} classes in {len(rows):,} rows, so that most occur once; "
            "if they are numbers, take --task regression"
        )


class ContrastiveClassification(Classification):
    """Sequence classification by a loss that also compares the examples of an update; the model is any classifier's."""

    learns: ClassVar = SupervisedContrastive

    weight: Share = 0.9
    """Weight of the contrastive loss; see `SupervisedContrastive`."""
    temperature: Positive = 0.3
    """Temperature of the contrastive loss."""

    @property
    def least_rows(self) -> int:
        """Rows of an update that can be compared."""
        return 2

    def objective(self, labels: Sequence[str]) -> SupervisedContrastive:
        """Return the objective, with the classes sorted as by `classes`.

        Raises:
            GenusError: there is only one class.
        """
        found = classes(labels, self.label)
        return SupervisedContrastive(
            labels=found, texts=self.texts_each, symmetric=self.symmetric, weight=self.weight,
            temperature=self.temperature,
        )  # fmt: skip

    def resolved_for(self, objective: FineTuned) -> Task:
        """Return the task for its objective, or for that of a model folder, which keeps nothing of the loss.

        Raises:
            UsageError: the objective is another task's, or a metric says nothing of its classes.
        """
        if type(objective) is Classification.learns:
            self._check_metrics(objective.classes)
            return self
        return super().resolved_for(objective)


def classes(labels: Iterable[str], column: str) -> tuple[str, ...]:
    """Return the distinct labels in their order.

    Raises:
        GenusError: there is only one.
    """
    found = in_order(labels)
    if len(found) < 2:
        raise GenusError(f"column {column!r}: all rows have the label {found[0]!r}; nothing is to be learned")
    return found


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct labels: numbers in numerical order, then other labels in alphabetical order."""
    return tuple(sorted(set(labels), key=_in_order))


def _in_order(label: str) -> tuple[bool, float, str]:
    try:
        return False, float(label), label
    except ValueError:
        return True, 0.0, label

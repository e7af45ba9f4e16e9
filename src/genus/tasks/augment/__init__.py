"""Few labels: the slot `Augmentation`, which gives fine-tuning further training rows, or another loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from genus.part import Natural, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genus.export.folder import LoadedModel
    from genus.objectives.supervised import FineTuned
    from genus.tasks import Task
    from genus.tasks.dataset import LabeledRow
    from genus.tasks.splits import Split


@dataclass(frozen=True)
class FewLabels:
    """What an augmentation has to work with."""

    rows: Sequence[LabeledRow]
    """The training rows, without those held out."""
    task: Task
    teach: Callable[[Sequence[LabeledRow], str], LoadedModel]
    """Fine-tunes on the rows and further ones, in a folder of that name, and returns the best seed's model."""


class Augmentation(Part, ABC):
    """What is done with few labels, in training alone: rows that are measured on are as they were.

    What it draws for a row depends on its seed and the row's number, not on the seeds of fine-tuning, which all learn
    from the same rows.
    """

    seed: Natural = 0
    """Of all draws."""

    @abstractmethod
    def further(self, given: FewLabels) -> list[LabeledRow]:
        """Return further training rows, each with its label; none where it changes the loss alone.

        Raises:
            GenusError: a file or a model that it needs cannot be used.
            UsageError: it is not said which.
        """

    def split(self, train: Split, given: FewLabels) -> Split:
        """Return the training rows with what is learned beside them: by default with the further ones.

        Raises:
            GenusError: a file or a model that it needs cannot be used.
            UsageError: it is not said which.
        """
        return replace(train, rows=[*train.rows, *self.further(given)])

    def objective(self, objective: FineTuned, passed: int) -> FineTuned:
        """Return the objective that is trained; by default the task's own.

        Args:
            objective: the task's.
            passed: the examples that all of training passes, each as often as it comes.

        Raises:
            UsageError: the task's loss cannot be changed so.
        """
        return objective

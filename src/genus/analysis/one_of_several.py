"""Analysis of answers that are one of several: a class of a text, a choice of a question."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.analysis import Analysis, Decisions, Likelihoods, Told
from genus.analysis.findings import Classes, Confusion
from genus.analysis.gradients import log_odds
from genus.batch import IGNORE
from genus.evaluate.calibration import log_probabilities
from genus.evaluate.class_report import ClassReport
from genus.evaluate.metrics import confusion
from genus.tasks import Task
from genus.tasks.choice import Choice
from genus.tasks.classification import Classification

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from genus.analysis import Answered


class ClassificationAnalysis(Analysis):
    """Analysis of the classes of texts or pairs, of each row the most probable one."""

    of: ClassVar[type[Task]] = Classification

    def likelihoods(self, given: Answered) -> Likelihoods:
        """Return the logits of the classes."""
        labels_U, values_UC = given.encoded.labels, given.outputs.values
        truth_U = np.where(labels_U == IGNORE, -1, labels_U)
        return Likelihoods(self.logits(given).astype(np.float64), given.objective.decide(values_UC), truth_U)

    def logits(self, given: Answered) -> NDArray[np.float32]:
        """Return the logits (U, C), here all outputs."""
        return given.outputs.values

    def owners(self, given: Answered) -> NDArray[np.int64]:
        """Return the row (U,) of each decision; here each is a row's."""
        return np.arange(len(given.rows))

    def decisions(self, given: Answered) -> Decisions:
        """Return the most probable class of each, with its probability."""
        found = self.likelihoods(given)
        chance_U = np.exp(log_probabilities(found.logits_UC)[np.arange(len(found.told_U)), found.told_U])
        return Decisions(self.owners(given), found.truth_U >= 0, found.told_U == found.truth_U, chance_U)

    def names(self, given: Answered) -> Sequence[str]:
        """Return the names of the classes."""
        return given.objective.classes

    def classes(self, given: Answered) -> Classes | None:
        """Return confusion matrix, scores of each class, and which classes do not occur."""
        known = self.likelihoods(given).known()
        return confused("class", self.names(given), known.truth_U, known.told_U) if len(known.truth_U) else None

    def told(self, given: Answered, decision: int) -> Told:
        """Return the class that is told, explained by its log-odds."""
        return self.explained(given, decision, decision, 0, {})

    def explained(
        self, given: Answered, decision: int, example: int, place: int, marks: dict[int, list[tuple[int, int]]]
    ) -> Told:
        """Return the class that is told at a target of an encoded example."""
        found, names = self.likelihoods(given), self.names(given)
        told, truth = int(found.told_U[decision]), int(found.truth_U[decision])

        def odds(outputs: dict[str, Tensor]) -> Tensor:
            return log_odds(outputs["logits"][place], told)

        name = names[told]
        return Told("" if truth < 0 else names[truth], name, f"log-odds of {name}", example, odds, marks)


def confused(what: str, names: Sequence[str], truth: NDArray[np.int64], told: NDArray[np.int64]) -> Classes:
    """Return the classes, with those in the confusion matrix that occur."""
    table = np.zeros((len(names), len(names)), np.int64)
    counted = confusion(truth, told)
    table[: len(counted), : len(counted)] = counted
    occurs = np.flatnonzero(table.sum(0) + table.sum(1))
    counts = table[np.ix_(occurs, occurs)].tolist()
    unseen = [name for place, name in enumerate(names) if place not in {*occurs.tolist()}]
    shown = Confusion([names[place] for place in occurs.tolist()], counts)
    return Classes(what, ClassReport.of_confusion(names, table), shown, unseen=unseen)


class ChoiceAnalysis(ClassificationAnalysis):
    """Analysis of multiple choice; its classes are the places of the choices, which should not matter."""

    of: ClassVar = Choice
    unit: ClassVar[str] = "question"

    def names(self, given: Answered) -> Sequence[str]:
        """Return the numbers of the choices."""
        return [str(number) for number in range(given.outputs.values.shape[1])]

    def pieces(self, given: Answered, row: int, sequence: int) -> list[tuple[int, int, int]]:
        """Return the pieces of the question and of one choice."""
        question, choice = (len(ids) for ids in given.encoded.texts[sequence])
        number = 1 + sequence - int(given.encoded.sequences(np.array([row]))[0])
        return self.cut_pieces(given, row, 0, question) + self.cut_pieces(given, row, number, choice)

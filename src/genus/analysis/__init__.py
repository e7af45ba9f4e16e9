"""Error analysis of a fine-tuned model on a table: the slot `Analysis`, which says what is looked at in each task.

Legend: N rows, U decisions (a row, a word, a label of a row), C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genus.errors import UsageError
from genus.evaluate.calibration import BINS, fit_temperature
from genus.objectives import device_of
from genus.part import Count, Natural, Part, slots_of
from genus.tasks import Task
from genus.tasks.answer import Answer, answers
from genus.train.world import device_of_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from genus.analysis.findings import Classes, Numbers
    from genus.evaluate.metrics import Metric
    from genus.export.folder import LoadedModel
    from genus.objectives.supervised import FineTuned
    from genus.tasks.answer import Outputs
    from genus.tasks.dataset import LabeledRow
    from genus.train.run import Run


@dataclass(frozen=True)
class Answered:
    """A table, and what a fine-tuned model answers to its rows."""

    model: LoadedModel
    task: Task
    objective: FineTuned
    encoded: Any
    """The `EncodedTexts` of the task's kind."""
    outputs: Outputs
    rows: Sequence[LabeledRow]
    path: Path
    run: Run | None = None
    """Device and precision of the answers; None: the model's device, in float32."""

    @property
    def device(self) -> torch.device:
        """The device of the answers."""
        return device_of(self.model.learner) if self.run is None else device_of_run(self.run)

    @cached_property
    def labeled(self) -> NDArray[np.bool_]:
        """(N,) which rows have a label."""
        return np.array([row.label is not None for row in self.rows], np.bool_)

    @cached_property
    def answers(self) -> list[Answer]:
        """The answer to each row."""
        return answers(self.objective, self.encoded, self.outputs)

    def sides(self, metric: Metric) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return truth and predictions of the labeled rows, as the metric compares them."""
        truth, predicted = self.encoded.for_metrics(self.objective, self.outputs, metric.judges)
        return truth, predicted


@dataclass(frozen=True)
class Decisions:
    """What is decided, each with its confidence."""

    row_U: NDArray[np.int64]
    """Index of the row."""
    known_U: NDArray[np.bool_]
    """Whether the truth is known."""
    right_U: NDArray[np.bool_]
    """Whether the decision is right; False where that is not known."""
    confidence_U: NDArray[np.float64]
    """Probability of what is decided; of a number, its distance from the truth."""


@dataclass(frozen=True)
class Likelihoods:
    """The logits of decisions among classes, and which class is true."""

    logits_UC: NDArray[np.float64]
    told_U: NDArray[np.int64]
    truth_U: NDArray[np.int64]
    """-1 where it is not known."""
    of: str = "the class that is told"
    binary: bool = False
    """Whether the probability that is looked at is that of the second class of two, told or not."""

    def known(self) -> Likelihoods:
        """Return those whose truth is known."""
        known_U = self.truth_U >= 0
        sides = self.logits_UC[known_U], self.told_U[known_U], self.truth_U[known_U]
        return Likelihoods(*sides, self.of, self.binary)


@dataclass(frozen=True)
class Told:
    """One decision in words, and what its gradient is taken of."""

    truth: str
    predicted: str
    explains: str
    example: int
    """Index of the encoded example that decides."""
    number: Callable[[dict[str, Tensor]], Tensor]
    """What is explained, given the outputs of the task's head for that example."""
    marks: dict[int, list[tuple[int, int]]]
    """Characters to be marked, by the number of the text."""


class Analysis(Part, ABC):
    """What is looked at in the answers to a task."""

    of: ClassVar[type[Task]]
    """The kind of task."""
    unit: ClassVar[str] = "text"
    """What is decided on."""
    probable: ClassVar[bool] = True
    """Whether decisions have probabilities."""

    groups: Count = 5
    """Most groups by length."""
    mistakes: Natural = 20
    """Most mistakes that are shown."""
    right: Natural = 5
    """Most right answers that are shown."""
    bins: Count = BINS
    """Bins of a calibration error."""
    draws: Count = 1000
    """Resamples of a bootstrap interval."""

    @abstractmethod
    def decisions(self, given: Answered) -> Decisions:
        """Return what is decided, in a fixed order."""

    @abstractmethod
    def told(self, given: Answered, decision: int) -> Told:
        """Return a decision in words."""

    def likelihoods(self, given: Answered) -> Likelihoods | None:
        """Return the logits of what is decided among classes; None where it is not."""
        return None

    def temperature(self, given: Answered) -> tuple[float, int]:
        """Return the best temperature of the labeled rows, and of how many decisions it is.

        Raises:
            GenusError: no temperature is best.
            UsageError: nothing is told that has a probability.
        """
        found = self.likelihoods(given)
        if found is None:
            kind = type(given.objective).__name__
            raise UsageError(f"calibration: {kind} tells no classes whose probabilities a temperature changes")
        known = found.known()
        return fit_temperature(known.logits_UC, known.truth_U), len(known.truth_U)

    def classes(self, given: Answered) -> Classes | None:
        """Return what is told of classes in the labeled rows; None where there are none."""
        return None

    def numbers(self, given: Answered) -> Numbers | None:
        """Return the numbers that are told in the labeled rows; None where classes are."""
        return None

    def lengths(self, given: Answered) -> NDArray[np.int64]:
        """Return the length (N,) of each row in tokens as they are read, special tokens included."""
        return np.asarray(given.encoded.longest)

    def groupings(self, given: Answered) -> dict[str, dict[str, list[int]]]:
        """Return further groups of labeled rows, by title and name, as their indices."""
        return {}

    def texts(self, given: Answered, row: int) -> Sequence[tuple[str, list[tuple[int, int]] | None]]:
        """Return the texts of a row as they are shown, each with the characters of its words; None: as they stand."""
        return [(text, None) for text in given.rows[row].texts]

    def pieces(self, given: Answered, row: int, sequence: int) -> list[tuple[int, int, int]]:
        """Return the pieces of a sequence of a row: number of the text, first character, character after the last.

        Here sequences are the texts in their order, and then, of pairs that are read in both, in the other one.
        """
        ids = given.encoded.texts[sequence]
        texts, number = given.rows[row].texts, sequence - int(given.encoded.sequences(np.array([row]))[0])
        order = [*range(len(texts))] if number == 0 else [*range(len(texts))][::-1]
        return [piece for part, text in enumerate(order) for piece in self.cut_pieces(given, row, text, len(ids[part]))]

    def cut_pieces(self, given: Answered, row: int, text: int, count: int) -> list[tuple[int, int, int]]:
        """Return the first so many pieces of a text of a row, as `pieces` does."""
        _, places = given.model.tokenizer.encode_with_offsets(given.rows[row].texts[text])
        return [(text, start, stop) for start, stop in places[:count].tolist()]


def analysis_for(task: Task) -> Analysis:
    """Return the analysis of a kind of task.

    Raises:
        UsageError: there is none.
    """
    kinds: list[Any] = list(slots_of(Analysis).values())  # type: ignore[type-abstract]  # a slot is abstract
    for kind in kinds:
        if kind.of is type(task):
            return kind()  # type: ignore[no-any-return]
    known = ", ".join(sorted(kind.of.__name__ for kind in kinds))
    raise UsageError(f"analysis: there is none of {type(task).__name__}, only of {known}; `genus evaluate --answers` "
                     "measures it, and writes the answer to each row")  # fmt: skip

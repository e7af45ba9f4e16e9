"""The teacher of a fine-tuning: a model that was fine-tuned for the task, whose answers the student learns.

Legend: M targets, V outputs of the task's head, U rows, or words of all rows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from genus.errors import GenusError, UsageError, say
from genus.export.weights import fingerprint
from genus.inference.engine import Inference
from genus.objectives import on
from genus.objectives.supervised.taught import TAUGHT, Taught, TaughtHead, Teaching
from genus.tasks.answer import outputs
from genus.tasks.predict import objective_of
from genus.tasks.report import TeacherRecord
from genus.train.world import device_of_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.export.folder import LoadedModel
    from genus.objectives import Head, Learner
    from genus.objectives.supervised import FineTuned
    from genus.recipe import Recipe
    from genus.tasks import Task
    from genus.tasks.dataset import LabeledRow
    from genus.tasks.encode import EncodedTexts
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

PROBE = 8
"""Tokens of a text by which the frames of two vocabularies are compared."""


@dataclass(frozen=True)
class Teacher:
    """A fine-tuned model, and how a student learns from it. It is read only: neither trained nor saved."""

    folder: Path
    model: LoadedModel
    teaching: Teaching

    @cached_property
    def objective(self) -> FineTuned:
        """The objective that the teacher was fine-tuned for.

        Raises:
            UsageError: it was fine-tuned for none, or for one that is not learned from outputs.
        """
        try:
            found = objective_of(self.model)
        except GenusError:
            raise UsageError(f"--teacher {self.folder}: was not fine-tuned, so that it has no answers to learn; run "
                             "`genus finetune` on it first") from None  # fmt: skip
        if not found.teachable or found.symmetric:
            pairs = " of pairs in both orders" if found.symmetric else ""
            raise UsageError(f"--teacher {self.folder}: {found.name}{pairs} is not learned from a teacher; "
                             "classification, multi-label, regression and tagging are")  # fmt: skip
        return found

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what its answers depend on: its weights, its architecture and its tokenizer."""
        recipe = self.model.recipe
        parts = [recipe.model.hash(), self.objective.hash(), self.model.tokenizer.hash(), recipe.finetuning.max_length]
        told = [fingerprint(self.model.learner.state_dict()), *map(str, parts)]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()

    @property
    def record(self) -> TeacherRecord:
        """What a report says of the teacher."""
        return TeacherRecord(str(self.folder), self.fingerprint, self.teaching)

    def student_objective(self, task: Task, rows: Sequence[LabeledRow], run: Run) -> FineTuned:
        """Return the objective of the student: that of the task, with the teacher's classes.

        Args:
            task: the student's.
            rows: the training rows, which need no labels.
            run: device and precision.

        Raises:
            UsageError: the teacher has another task, other labels, or other numbers of texts.
        """
        labels = [label for row in rows for label in row.labels]
        if type(self.objective) is not task.learns:
            raise UsageError(f"--teacher {self.folder}: was fine-tuned for {self.objective.name}, and not for what the "
                             f"student is to learn, --task {type(task).__name__.lower()}")  # fmt: skip
        known = self.objective.classes
        if strange := sorted({*labels} - {*known}) if known else []:
            raise UsageError(f"--teacher {self.folder}: does not know the label {strange[0]!r:.80} of the training "
                             f"table, only {', '.join(known)[:200]}; take a teacher of the same labels")  # fmt: skip
        if not known and not labels:
            labels = [str(value) for value in self._outputs(task, rows, run)[:, 0].tolist()]
        found = task.objective([*labels, *known])
        if self.objective.texts not in (None, found.texts):
            raise UsageError(f"--teacher {self.folder}: was fine-tuned on {_texts(self.objective.texts)}, and not on "
                             f"{_texts(found.texts)}; name as many columns with --text")  # fmt: skip
        return found

    def taught(self, objective: FineTuned, recipe: Recipe, reader: Tokenizer) -> Taught:
        """Return the objective that stands beside the student's.

        Args:
            objective: the student's.
            recipe: the student's, before fine-tuning.
            reader: the student's tokenizer.

        Raises:
            UsageError: hidden states are to be compared, and the two do not read the same tokens.
        """
        width = None
        if self.teaching.hidden:
            self._check_same_tokens(recipe, reader)
            width = self.model.recipe.model.width
        return Taught(task=objective, teaching=self.teaching, teacher=self.fingerprint, width=width)

    def answers(self, task: Task, objective: FineTuned, rows: Sequence[LabeledRow], encoded: EncodedTexts, run: Run
                ) -> NDArray[np.float32]:  # fmt: skip
        """Return the teacher's outputs (M, V) for the student's targets, in the order of the student's classes.

        They are NaN for a word of which the teacher's tokenizer leaves nothing.
        """
        say(f"{self.folder}: this teacher answers {len(rows):,} rows, once for all epochs and seeds")
        found_UV, places = self._outputs(task, rows, run), encoded.units
        if known := self.objective.classes:
            found_UV = found_UV[:, [known.index(label) for label in objective.classes]]
        return found_UV[places]

    def _outputs(self, task: Task, rows: Sequence[LabeledRow], run: Run) -> NDArray[np.float32]:
        """Return the outputs (U, V) for every row, or for every word of all rows, NaN for those without a token."""
        model = self.model
        blind = [replace(row, label=None) for row in rows]
        encoded = task.encode(model.tokenizer, blind, self.objective, model.recipe.finetuning.max_length)
        if encoded.warnings:
            say(f"{self.folder}: {'; '.join(encoded.warnings)}")
        with on(model.learner, device_of_run(run)):
            found_MV = outputs(model.learner, model.recipe.model, encoded, Inference(run.precision)).values
        units = sum(len(row.texts) for row in rows) if self.objective.of_words else len(rows)
        found_UV = np.full((units, found_MV.shape[1]), np.nan, np.float32)
        found_UV[encoded.units] = found_MV
        return found_UV

    def begin(self, learner: Learner) -> None:
        """Let a student's learner learn: its head listens to the task's, and reads the teacher's states if asked."""
        head = cast("TaughtHead", learner.heads[TAUGHT])
        head.listen(cast("Head", learner.heads[head.choice.task.name]))
        if self.teaching.hidden:
            head.set_teacher(self.model.learner)

    def _check_same_tokens(self, recipe: Recipe, reader: Tokenizer) -> None:
        """Raise a UsageError unless teacher and student read the same tokens of every text."""
        own, other, model = reader, self.model.tokenizer, self.model.recipe.model
        longest, asked = model.max_length, recipe.finetuning.max_length
        why = ""
        if own.pieces != other.pieces or _frame(own) != _frame(other):
            why = "it has another tokenizer than the student"
        elif model.streams != {"tokens"} or recipe.model.streams != {"tokens"}:
            why = "one of the two is no encoder or decoder alone"
        elif longest is not None and longest < asked:
            why = f"it has {longest} positions, and texts up to {asked} tokens (finetuning.max_length)"
        if why:
            raise UsageError(f"--teacher-set hidden: hidden states of {self.folder} are those of other tokens: {why}; "
                             "leave hidden at 0, by which only its answers are learned")  # fmt: skip


def _frame(tokenizer: Tokenizer) -> list[Any]:
    """Return how a vocabulary frames a text and a pair."""
    text = np.arange(PROBE)
    framed = [tokenizer.vocabulary.frame(text), tokenizer.vocabulary.frame(text, text)]
    return [part.tolist() for one in framed for part in one]


def _texts(number: int | None) -> str:
    return "pairs" if number == 2 else "single texts"

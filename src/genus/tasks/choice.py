"""Multiple choice: questions with their choices, of which one is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from genus.errors import GenusError, UsageError
from genus.evaluate.metrics import Accuracy, Metric
from genus.objectives.supervised import FineTuned
from genus.objectives.supervised.choice import MultipleChoice
from genus.tasks import Task
from genus.tasks.cell import label_in, several_in, text_in, written
from genus.tasks.checks import Check, contradictory, overlap, repeated, skewed
from genus.tasks.dataset import targets
from genus.tasks.encode import tokenized
from genus.tasks.groups import EncodedGroups

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.tasks.dataset import Label, LabeledRow
    from genus.tokens.tokenizer import Tokenizer

SEVERAL = 20
"""Rows in which the first of a few choices is hardly never right."""


class Choice(Task):
    """Multiple choice: one of the choices of each row answers the question, or goes on from the context.

    A sequence is a question with one of its choices, framed as a pair. With a context and a question, both together are
    the first text. The number of choices may differ from row to row.
    """

    learns: ClassVar[type[FineTuned]] = MultipleChoice
    answers: ClassVar[Literal["choose"] | None] = "choose"
    judged: ClassVar[tuple[str, ...]] = ("classes",)
    checks: ClassVar[tuple[Check, ...]] = (overlap, repeated, contradictory, skewed)

    texts: tuple[str, ...] = ("question",)
    choices: tuple[str, ...] = ("choices",)
    """The column with a list of the choices, or several columns with a choice each."""
    metrics: tuple[Metric, ...] = (Accuracy(),)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of texts and choices."""
        return self.texts + self.choices

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: other than one or two columns of texts; no column of choices; no metric, or another's.
        """
        super().__post_init__()
        if not self.choices:
            raise UsageError("choices: expected the column of the lists of choices, or a column for each choice")

    def unfolded(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Return a row for each question, where a row has a list of them, as RACE's passages have.

        Raises:
            ValueError: there are not as many lists of choices, or labels.
        """
        questions = row.get(self.texts[-1])
        if not isinstance(questions, list):
            return [row]
        given = [self.texts[-1], *self.choices, self.label]
        lists = {column: row[column] for column in given if row.get(column) is not None}
        for column, cell in lists.items():
            if not isinstance(cell, list) or len(cell) != len(questions):
                raise ValueError(f"column {column!r} holds no list of {len(questions)}, one for each question")
        several = [dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True)]
        return [row | one for one in several]

    def read(self, row: dict[str, Any]) -> tuple[tuple[str, ...], Label | None]:
        """Return the texts before the choices as one, then the choices of a row, and the number of the right one.

        The label is the number of a choice from 0, its letter from A, its column, its text, or what a table of Hugging
        Face's ARC has in `label` beside `text`.

        Raises:
            ValueError: a column holds something else, there are no choices, or the label is none of them.
        """
        before = " ".join(filter(None, (_text(row, column) for column in self.texts)))
        names, choices = self._choices(row)
        label = label_in(row, self.label)
        return (before, *choices), None if label is None else str(number_of(label, names, choices, self.label))

    def _choices(self, row: dict[str, Any]) -> tuple[list[str], list[str]]:
        """Return names and texts of the choices of a row."""
        if len(self.choices) > 1:
            return list(self.choices), [text_in(row, column) for column in self.choices]
        (column,) = self.choices
        names, cell = [], row[column]
        if isinstance(cell, dict) and isinstance(cell.get("text"), list):
            names, row = [written(name, column) for name in cell.get("label", ())], {column: cell["text"]}
        found = [written(one, column) for one in several_in(row, column, "choices") or ()]
        if len(found) < 2:
            raise ValueError(f"column {column!r} holds no list of two choices or more")
        return names, found

    def objective(self, labels: Sequence[str]) -> FineTuned:
        """Return the objective of a score for each choice."""
        return MultipleChoice()

    def remark(self, rows: Sequence[LabeledRow]) -> str:
        """Return a line on labels that seem to count from 1, which are read as counting from 0."""
        found = {label for row in rows for label in row.labels}
        if "0" in found or len(rows) < SEVERAL:
            return ""
        return f"column {self.label!r}: the first choice is never right in {len(rows):,} rows; numbers count from 0"

    def encode(
        self,
        tokenizer: Tokenizer,
        rows: Sequence[LabeledRow],
        objective: FineTuned,
        max_length: int,
        path: Path | None = None,
    ) -> EncodedGroups:
        """Tokenize each question with each of its choices, truncated to `max_length` tokens.

        Raises:
            GenusError: `max_length` leaves no room for text, or a question without choices.
        """
        for row in rows:
            if len(row.texts) < 2:
                raise GenusError(f"row {row.line}: a question without choices; give the question, then its choices")
        pairs = [(row.texts[0], choice) for row in rows for choice in row.texts[1:]]
        texts, lost = tokenized(tokenizer, pairs, max_length)
        offsets = np.cumsum([0, *(len(row.texts) - 1 for row in rows)])
        labels, most = targets(rows, objective, path), np.maximum.reduceat(lost, offsets[:-1])
        return EncodedGroups(
            texts, labels, objective.name, tokenizer.vocabulary, max_length, most[most > 0], offsets,
            repeated=bool(objective.adds),
        )  # fmt: skip


def _text(row: dict[str, Any], column: str) -> str:
    """Return the text of a column; a list of texts, as the turns of a dialogue, is one text."""
    cell = row[column]
    if not isinstance(cell, list):
        return text_in(row, column)
    return " ".join(filter(None, (text_in({column: one}, column) for one in cell)))


def number_of(label: str, names: list[str], choices: list[str], column: str) -> int:
    """Return the number of the choice that a label means.

    Raises:
        ValueError: it means none, or one by number and another by text.
    """
    letters = [chr(ord("A") + number) for number in range(len(choices))]
    plain = [str(number) for number in range(len(choices))]
    readings = [names] if label in names else [plain, letters, [choice.strip() for choice in choices]]
    found = {known.index(label) for known in readings if label in known}
    if len(found) == 1:
        return found.pop()
    if found:
        raise ValueError(f"column {column!r}: {label!r:.80} is one choice by number or letter, and another by text; "
                         "give letters or numbers that are no choice")  # fmt: skip
    raise ValueError(f"column {column!r}: {label!r:.80} is none of the {len(choices)} choices, by number from 0, by "
                     "letter from A, by column or by text")  # fmt: skip

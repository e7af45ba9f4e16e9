"""Evaluation by prompt: the slot `PromptedTask`, tasks that a pretrained model is asked in words.

A task is a part in a TOML or JSON file: which columns of a table make the question, the answer and the choices, how
worked examples stand before it, and what is measured. It holds no rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from genus.errors import UsageError
from genus.part import Count, Part
from genus.prompts.columns import Column
from genus.prompts.template import Template

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from genus.prompts.answerer import Answerer


@dataclass(frozen=True)
class TableRow:
    """A row of a table, with the columns that the task derives from others."""

    file: Path
    line: int
    values: dict[str, Any]

    def __str__(self) -> str:
        """Return the place of the row, as errors name it."""
        return f"{self.file}, line {self.line}"


@dataclass(frozen=True)
class Asked:
    """A tested row, and what stands before its answer: instruction, worked examples and question."""

    row: TableRow
    prompt: str


@dataclass(frozen=True)
class Answered:
    """What a model answered to one row."""

    values: dict[str, float]
    """What each metric is computed from: 1 or 0 of an accuracy, nats of a perplexity."""
    told: dict[str, Any]
    """The answer and how it was found, for a file of answers."""
    cut: bool = False
    """Whether the prompt lost its left end, as it was longer than the model's positions."""


class PromptedTask(Part, ABC):
    """A task that a pretrained model is asked in words: templates over the columns of a table, and metrics.

    A prompt is, joined by `separator`: the instruction, k worked examples (`prompt`, `delimiter`, `shot`), and the
    question of the tested row (`prompt`). The model goes on with `delimiter` and its answer. Without a question the
    delimiter is left out. In templates, `{name}` is a column, `{name.inner}` what lies within an object or a list of
    it, and `{{`, `}}` are braces.
    """

    scoring: ClassVar[str]
    """How it is scored: by `likelihood` or by `generation`."""

    name: str
    version: Count
    """To be raised with every change of what is asked or measured, as results of two versions do not compare."""
    description: str
    """What is asked, for people."""
    source: str = ""
    """Where data and templates come from."""
    data: str = "*"
    """Which tables of a folder are the tested rows, as a pattern of file names."""
    examples: str = ""
    """Which tables of a folder give worked examples; none: the tested ones do."""
    columns: tuple[Column, ...] = ()
    """Columns that are derived from others."""
    instruction: str = ""
    """What stands before everything."""
    prompt: str
    """Template of the question."""
    answer: str
    """Template of the right answer."""
    shot: str | None = None
    """Template of the answer in worked examples, such as a chain of thought; None: the right answer."""
    delimiter: str = " "
    """What stands between question and answer."""
    separator: str = "\n\n"
    """What stands between worked examples."""
    metrics: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the templates.

        Raises:
            UsageError: no metric, or a template with a brace that stands alone.
        """
        if not self.metrics:
            raise UsageError("metrics: expected at least one")
        for template in (self.prompt, self.answer, self.shot or ""):
            Template(template)
        if fields := Template(self.instruction).fields:
            raise UsageError(f"instruction: stands before all rows and has no columns, got {{{fields[0]}}}")

    def row(self, file: Path, line: int, values: dict[str, Any]) -> TableRow:
        """Return a row of a table with the derived columns.

        Raises:
            ValueError: one cannot be derived.
        """
        for column in self.columns:
            values = {**values, column.name: column.derived(values)}
        return TableRow(file, line, values)

    def question(self, row: TableRow) -> str:
        """Return the question of a row.

        Raises:
            ValueError: a column of the template is missing, or holds no text.
        """
        return Template(self.prompt).filled(row.values)

    def worked(self, row: TableRow) -> str:
        """Return a row as a worked example: question and answer.

        Raises:
            ValueError: a column of the templates is missing, or holds no text.
        """
        answer = self.right_answer(row) if self.shot is None else Template(self.shot).filled(row.values)
        question = self.question(row)
        return question + self.after(question, answer)

    def after(self, question: str, answer: str) -> str:
        """Return an answer as it follows a question: with the delimiter, if there is a question."""
        return self.delimiter + answer if question else answer

    def asked(self, row: TableRow, shots: Sequence[TableRow]) -> Asked:
        """Return a row with its prompt, given the rows of its worked examples.

        Raises:
            ValueError: a column of the templates is missing, or holds no text.
        """
        before = [self.instruction] if self.instruction else []
        return Asked(row, self.separator.join([*before, *map(self.worked, shots), self.question(row)]))

    def following(self, asked: Asked, answer: str) -> str:
        """Return an answer as it goes on from a prompt."""
        return self.after(self.question(asked.row), answer)

    @abstractmethod
    def right_answer(self, row: TableRow) -> str:
        """Return the text of the right answer.

        Raises:
            ValueError: a column is missing, the answer is empty, or it is none of the choices.
        """

    @abstractmethod
    def answers(self, asked: Sequence[Asked], answerer: Answerer) -> list[Answered]:
        """Return what a model answers to each row."""

    def summary(self, metric: str, values: NDArray[np.float64]) -> float:
        """Return a metric over rows, from its values (N,) of each: their mean."""
        return float(values.mean())

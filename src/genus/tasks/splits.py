"""The training, validation and test splits of a task, read and tokenized."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from genus.errors import GenusError
from genus.tasks.dataset import LabeledRow, hold_out, read, without_placeholders
from genus.tasks.report import DataSummary

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives.supervised import FineTuned
    from genus.tasks import Task
    from genus.tasks.dataset import Files
    from genus.tasks.encode import EncodedTexts
    from genus.text.noise import TextNoise
    from genus.tokens.tokenizer import Tokenizer

HELD_OUT = 0.1
"""Fraction of the training rows held out for validation if there is no validation table."""


@dataclass(frozen=True, slots=True)
class Split:
    """The rows of a split and the table that they come from."""

    path: Path
    rows: list[LabeledRow]
    held_out: bool = False
    noise: TextNoise | None = None
    """What the texts of the rows were changed by."""

    @property
    def examples(self) -> int:
        """The number of examples that an epoch passes."""
        return len(self.rows)

    @property
    def content(self) -> list[object]:
        """All that results depend on."""
        return [row.content for row in self.rows]

    def encode(self, task: Task, tokenizer: Tokenizer, objective: FineTuned, max_length: int) -> EncodedTexts:
        """Tokenize the rows, truncated to `max_length` tokens."""
        return task.encode(tokenizer, self.rows, objective, max_length, self.path)

    def without_placeholders(self, objective: FineTuned) -> Split:
        """Return the split, in which labels that stand for none are none."""
        return replace(self, rows=without_placeholders(self.rows, objective, self.path))

    def data(self) -> DataSummary:
        """Return the summary of the split for the report."""
        noise = None if self.noise is None else self.noise.told
        return DataSummary(os.fsencode(self.path).decode(errors="replace"), len(self.rows), self.held_out, noise)


def read_splits(files: Files, task: Task, *, unlabeled: bool = False) -> dict[str, Split]:
    """Return the splits `train`, `validation` and, if there is a table for it, `test`.

    Args:
        files: the tables.
        task: names the columns.
        unlabeled: whether training rows may lack labels, as where a teacher answers them.

    Raises:
        GenusError: a file that cannot be used, a training or validation row without a label.
    """
    rows = read(files.train, task, labeled=False) if unlabeled else _labeled(files.train, task)
    found = {"train": Split(files.train, rows)}
    if files.validation is None:
        kept, held = hold_out(found["train"].rows, HELD_OUT)
        if not kept:
            raise GenusError(f"{files.train}: holds one row, and none can be held out; add rows or a validation table")
        if all(row.label is None for row in held):
            raise GenusError(f"{files.train}: its rows have no labels, by which weights could be chosen; give a table "
                             "of labeled rows with --validation")  # fmt: skip
        found = {"train": Split(files.train, kept), "validation": Split(files.train, held, held_out=True)}
    else:
        found["validation"] = Split(files.validation, _labeled(files.validation, task))
    if files.test is not None:
        found["test"] = Split(files.test, read(files.test, task, labeled=False))
    return found


def _labeled(path: Path, task: Task) -> list[LabeledRow]:
    rows = read(path, task)
    for row in rows:
        if row.label is None:
            column = ",".join(task.label_columns)
            raise GenusError(
                f"{path}, line {row.line}: there is no label in column {column!r}; leave the row out, or give one"
            )
    return rows

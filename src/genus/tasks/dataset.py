"""The dataset of a task: the files of its splits, their labeled rows, the labels as class indices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.errors import GenusError, UsageError, near, say
from genus.examples.keys import PLAN, generator
from genus.tasks.notices import Notices
from genus.tasks.table import SUFFIXES, beside, rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.objectives.supervised import FineTuned
    from genus.tasks import Task

Label = str | tuple[str, ...]
"""The label of a row; or its labels, of which there may be none, or those of its words."""
SPLITS = {"train": ("train",), "validation": ("validation", "valid", "dev", "val"), "test": ("test",)}
"""How the name of each split's file begins."""
UNLABELED = ("-1", "-100")
"""Labels that stand for none: of every row of a test split in Hugging Face's GLUE tables; of what its losses ignore."""
WRITTEN_MISSING = ("None", "none", "null", "NULL", "NA", "N/A", "n/a")
"""Labels that may be classes, but in many files stand for a missing value."""


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a task's splits; without a validation file, a fraction of the training rows is held out."""

    train: Path
    validation: Path | None = None
    test: Path | None = None

    @classmethod
    def find(cls, folder: Path, columns: Sequence[str] = ()) -> Files:
        """Return the splits of a folder, from names such as `train.jsonl.gz`, `dev.tsv`, `validation_matched.parquet`.

        Args:
            folder: holds the files.
            columns: those of the task; plain text files named after them, as `train.de` and `train.en`, are a table.

        Raises:
            UsageError: there is no training table, or more than one for a split.
        """
        found = {split: _find(folder, names, columns) for split, names in SPLITS.items()}
        train = found.pop("train")
        if train is None:
            raise UsageError(f"{folder}: holds no training table, such as train.jsonl, train.csv or train.parquet")
        return cls(train, **found)


@dataclass(frozen=True, slots=True)
class LabeledRow:
    """One labeled example, as the user wrote it."""

    line: int
    texts: tuple[str, ...]
    """The text, the two texts of a pair, or the words."""
    label: Label | None
    """None if the row has no label, and is not known to have none."""
    starts: tuple[int, ...] = ()
    """Where labels that stand in the last text begin there, in characters."""
    id: str | None = None
    """The row's own name, where it has one."""
    ends: tuple[int, ...] = ()
    """Where labels that stand in the last text end, the character after, if they do not tell it themselves."""

    @property
    def content(self) -> tuple[object, ...]:
        """All that results depend on."""
        return (self.texts, self.label, *filter(None, (self.starts, self.ends)))

    @property
    def labels(self) -> tuple[str, ...]:
        """The row's label or labels, or those of its words; empty if it has none."""
        return self.label if isinstance(self.label, tuple) else tuple(filter(None, [self.label]))


def read(path: Path, task: Task, *, labeled: bool = True) -> list[LabeledRow]:
    """Return the rows of a table.

    Args:
        path: the table.
        task: names the columns.
        labeled: whether the column of labels is required.

    Raises:
        GenusError: the file cannot be read or has no rows; a column is missing or holds something else.
    """
    found, notices = [], Notices()
    for line, row in rows(path, notices, (*task.columns, *task.label_columns, *task.others)):
        for column in task.columns + (task.label_columns if labeled else ()):
            if column not in row:
                raise GenusError(f"{path}, line {line}: there is no column {column!r}.{near(column, list(row))}")
        try:
            made = [task.row(line, one) for one in task.unfolded(row)]
        except ValueError as error:
            raise GenusError(f"{path}, line {line}: {error}") from None
        found += made
        if not made:
            notices.add("holds no question, and is left out", line)
        for several in (one.labels for one in made):
            if len(several) == 1 and several[0] in WRITTEN_MISSING:
                notices.add(f"the label {several[0]!r} is a class; leave the cell empty if it means none", line)
    if not found:
        raise GenusError(f"{path}: holds no rows")
    for notice in notices.lines(path):
        say(notice)
    return found


def without_placeholders(rows: Sequence[LabeledRow], objective: FineTuned, path: Path) -> list[LabeledRow]:
    """Return the rows of a table that may have no labels: where every label is -1, or -100, and no class, it has none.

    So has a table in which every row is said to have no label of several. It is said, as is how many of the rows have
    no label.
    """
    given = {label for row in rows for label in row.labels}
    placeholder = len(given) == 1 and given <= {*UNLABELED} and not objective.can_be(*given)
    if placeholder:
        say(f"{path}: all labels are {min(given)}, which none is in training: taken as rows without a label")
    elif not given and any(row.label is not None for row in rows):
        placeholder = True
        say(f"{path}: the cells of the labels are empty in all rows: taken as rows without a label")
    found = [replace(row, label=None) if placeholder else row for row in rows]
    blind = sum(row.label is None for row in found)
    if 0 < blind < len(found):
        say(f"{path}: {blind:,} of {len(found):,} rows have no label, and are answered but not measured")
    return found


def targets(rows: Sequence[LabeledRow], objective: FineTuned, path: Path | None = None) -> NDArray[Any]:
    """Return the training targets (rows,): int64 class indices, or float32 values for regression.

    Raises:
        GenusError: a label that does not occur in training, or is not a number, with its file and line.
    """
    numbers = []
    for row in rows:
        (label,) = row.labels or (None,)
        try:
            numbers.append(objective.label_of(label))
        except ValueError as error:
            where = f"row {row.line}" if path is None else f"{path}, line {row.line}"
            raise GenusError(f"{where}: {error}") from None
    return np.asarray(numbers, np.float32 if any(isinstance(number, float) for number in numbers) else np.int64)


def hold_out(rows: Sequence[LabeledRow], share: float) -> tuple[list[LabeledRow], list[LabeledRow]]:
    """Split rows into training and validation rows: a fraction `share`, at least one row, the same in every run."""
    order = generator(0, PLAN, 0, 0).permutation(len(rows))
    held = set(order[: max(1, round(share * len(rows)))].tolist())
    return [row for i, row in enumerate(rows) if i not in held], [row for i, row in enumerate(rows) if i in held]


def named_as(folder: Path, names: tuple[str, ...], columns: Sequence[str] = ()) -> list[Path]:
    """Return the tables with exactly such a name, otherwise those whose names begin with it."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    tables = [path for path in paths if any(ending in SUFFIXES for ending in path.suffixes[-2:])]
    tables = tables or sorted({*filter(None, (beside(path, columns) for path in paths))})
    exact = [path for path in tables if path.name.split(".")[0] in names]
    starts = tuple(name + mark for name in names for mark in "_-")
    return exact or [path for path in tables if path.name.startswith(starts)]


def _find(folder: Path, names: tuple[str, ...], columns: Sequence[str]) -> Path | None:
    """Return the one table of such a name; None if there is none."""
    found = named_as(folder, names, columns)
    if len(found) > 1:
        raise UsageError(f"{folder}: which table is it: {', '.join(path.name for path in found)}? Name the file")
    return found[0] if found else None

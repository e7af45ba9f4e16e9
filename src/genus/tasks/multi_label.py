"""Multi-label classification: any number of labels for each text or pair, none included."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

import numpy as np

from genus.errors import GenusError, UsageError, say
from genus.evaluate.label_metrics import (
    HammingLoss,
    LabelMacroF1,
    LabelMetric,
    LabelMicroF1,
    LabelRankingAveragePrecision,
    MacroAuroc,
    SampleF1,
    SubsetAccuracy,
)
from genus.evaluate.metrics import Metric  # a choice is read by its annotation
from genus.evaluate.thresholds import one_threshold, threshold_of_each
from genus.objectives.supervised.multi_label import MultiLabelClassification, chances
from genus.tasks import Task
from genus.tasks.cell import MISSING, several_in, text_in, written
from genus.tasks.checks import contradictory, leak, overlap, rare, repeated, skewed, spellings
from genus.tasks.classification import in_order
from genus.tasks.dataset import UNLABELED
from genus.tasks.table import rows as rows_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.objectives.supervised import FineTuned
    from genus.tasks.answer import Outputs
    from genus.tasks.dataset import Label, LabeledRow
    from genus.tasks.encode import EncodedTexts

Mark = Literal["|", ";", ","]
SEPARATORS: tuple[Mark, ...] = ("|", ";", ",")
"""What may stand between the labels of a cell of text, the least usual within a label first."""
HOLDS = {"0": False, "1": True, "False": False, "True": True, "false": False, "true": True}
"""What a column per label holds, as `written` gives it."""
SHOWN = 5
"""Labels that a message names at most."""


class MultiLabel(Task):
    """Multi-label classification: each text or pair has any number of the labels that occur in the training rows.

    The labels of a row are a list, or a text with a separator between them, in one column; or there is a column for
    each label, which holds 0 or 1. An empty list or text is a text without labels; null is a row without annotation.
    """

    learns: ClassVar = MultiLabelClassification
    answers: ClassVar = "classify"
    judged: ClassVar[tuple[str, ...]] = (LabelMetric.judges, MultiLabelClassification.scored)
    checks: ClassVar = (overlap, repeated, contradictory, skewed, rare, spellings, leak)

    label: str = "labels"
    """The column of the labels; or the columns of 0 and 1, one for each label, separated by commas."""
    metrics: tuple[Metric, ...] = (
        LabelMicroF1(),
        LabelMacroF1(),
        SampleF1(),
        SubsetAccuracy(),
        HammingLoss(),
        LabelRankingAveragePrecision(),
        MacroAuroc(),
    )
    separator: Literal["auto", "none", "|", ";", ","] = "auto"
    """What stands between the labels of a cell of text; `auto`: what the table shows."""
    thresholds: Literal["half", "tuned", "tuned_each"] = "half"
    """The probability over which a label is told: 0.5, one that is tuned in validation for the first metric, or one for
    each label."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: as `Task`; no column of labels; thresholds for a metric that they do not change.
        """
        super().__post_init__()
        if not all(self.label_columns) or len(set(self.label_columns)) < len(self.label_columns):
            raise UsageError(f"label: expected a column, or different ones separated by commas, got {self.label!r}")
        if self.thresholds != "half" and self.metrics[0].judges != LabelMetric.judges:
            raise UsageError(f"thresholds: {self.metrics[0].name} ranks by scores, which no threshold changes; put "
                             "another metric first")  # fmt: skip

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The column of the labels, or one for each label."""
        return tuple(column.strip() for column in self.label.split(","))

    def told_by(self, path: Path, known: Collection[str] = ()) -> Self:
        """Return the task with the separator of the labels in a table, which is said.

        It is the first that leaves known labels alone, if any are known; else the first that occurs.
        """
        if self.separator != "auto" or len(self.label_columns) > 1:
            return self
        read = (row.get(self.label) for _, row in rows_of(path, columns=self.label_columns))
        cells = [*dict.fromkeys(cell for cell in read if isinstance(cell, str) and cell not in MISSING)]
        if not cells:
            return self
        found = separator_of(cells, known)
        if found is None:
            marks = " or ".join(map(repr, SEPARATORS))
            say(f"{path}: no cell of column {self.label!r} is separated by {marks}: each is one label")
            return replace(self, separator="none")
        example, other = next(cell for cell in cells if found in cell), ";" if found != ";" else "|"
        say(f"{path}: labels in column {self.label!r} are separated by {found!r}, as in {example!r:.80}; if that is "
            f"wrong, say --task-set 'separator={other}' or separator=none")  # fmt: skip
        return replace(self, separator=found)

    def read(self, row: dict[str, Any]) -> tuple[tuple[str, ...], Label | None]:
        """Return texts and labels of a row; None for the labels of one without annotation.

        Raises:
            ValueError: a column holds something else.
        """
        texts = tuple(text_in(row, column) for column in self.texts)
        return texts, self._labels(row) if len(self.label_columns) == 1 else self._marked(row)

    def _labels(self, row: dict[str, Any]) -> tuple[str, ...] | None:
        """Return the labels of a list or a text."""
        cell = row.get(self.label)
        if isinstance(cell, str):
            return None if cell.strip() in MISSING and cell.strip() else split(cell, self.separator)
        given = several_in(row, self.label, "labels")
        if given is None:
            return None
        labels = tuple(written(one, self.label).strip() for one in given)
        if "" in labels:
            raise ValueError(f"label {labels.index('') + 1} of column {self.label!r} is empty")
        return labels

    def _marked(self, row: dict[str, Any]) -> tuple[str, ...] | None:
        """Return the labels whose columns hold 1; none of them may be without a value, unless all are."""
        marks = {column: written(row.get(column), column).strip() for column in self.label_columns}
        if {*marks.values()} <= {*MISSING} or {*marks.values()} <= {*UNLABELED}:
            return None
        for column, mark in marks.items():
            if mark not in HOLDS:
                raise ValueError(f"column {column!r} holds {mark!r:.40}, and not 0 or 1 for whether the text has the "
                                 "label")  # fmt: skip
        return tuple(column for column, mark in marks.items() if HOLDS[mark])

    def objective(self, labels: Sequence[str]) -> MultiLabelClassification:
        """Return the objective, with the labels sorted as classes are; those of columns in the order of the columns.

        Raises:
            GenusError: no row has a label.
        """
        if not labels:
            raise GenusError(f"column {self.label!r}: no row has a label; nothing is to be learned")
        found = self.label_columns if len(self.label_columns) > 1 else in_order(labels)
        return MultiLabelClassification(labels=found, texts=self.texts_each, symmetric=self.symmetric)

    def checked(self, splits: Mapping[str, Sequence[LabeledRow]], objective: FineTuned) -> list[str]:
        """Return what its checks tell of the rows, of whose labels the order says nothing."""
        plain = {
            name: [row if row.label is None else replace(row, label=tuple(sorted({*row.labels}))) for row in rows]
            for name, rows in splits.items()
        }
        return super().checked(plain, objective)

    def remark(self, rows: Sequence[LabeledRow]) -> str:
        """Return a line on the labels: how many there are, and how many a text has."""
        counts = Counter(len({*row.labels}) for row in rows)
        several = len({label for row in rows for label in row.labels})
        mean = sum(number * times for number, times in counts.items()) / len(rows)
        twice = sum(len({*row.labels}) < len(row.labels) for row in rows)
        told = f"{several:,} labels, {mean:.2f} per text on average; {counts[0]:,} of {len(rows):,} texts have none"
        told += f"; {twice:,} name one twice, which counts once" if twice else ""
        told += "; all have one, for which there is --task classification" if counts.keys() == {1} else ""
        return f"column {self.label!r}: {told}"

    def targets(
        self, rows: Sequence[LabeledRow], objective: FineTuned, path: Path | None = None
    ) -> NDArray[np.float32]:
        """Return which labels the rows have (rows, labels): 1 or 0, NaN for all labels of one without annotation.

        Raises:
            GenusError: labels that do not occur in training, with how many there are.
        """
        names, strange = {label: number for number, label in enumerate(objective.classes)}, Counter[str]()
        found = np.zeros((len(rows), len(names)), np.float32)
        for number, row in enumerate(rows):
            if row.label is None:
                found[number] = np.nan
                continue
            found[number, [names[label] for label in row.labels if label in names]] = 1
            strange.update({*row.labels} - names.keys())
        if strange:
            first = next(row for row in rows if strange.keys() & {*row.labels})
            where = f"row {first.line}" if path is None else f"{path}, line {first.line}"
            some = ", ".join(repr(label)[:80] for label, _ in strange.most_common(SHOWN))
            more = ", ..." if len(strange) > SHOWN else ""
            raise GenusError(f"{where}: here and below, {strange.total():,} labels do not occur in training, so that "
                             f"no answer has them: {some}{more}; leave them out, or add rows with them to the training "
                             "table")  # fmt: skip
        return found

    def tuned(self, objective: FineTuned, encoded: EncodedTexts, found: Outputs) -> FineTuned:
        """Return the objective with thresholds that are tuned for the first metric on outputs for labeled rows."""
        metric = self.metrics[0]
        truth, scores = encoded.for_metrics(objective, found, MultiLabelClassification.scored)
        if self.thresholds == "half" or not metric.defined(truth):
            return objective
        given = truth, chances(scores), cast("LabelMetric", metric)
        if self.thresholds == "tuned":
            values = [one_threshold(*given)] * truth.shape[1]
        else:
            values = threshold_of_each(*given).tolist()
        return replace(cast("MultiLabelClassification", objective), thresholds=tuple(values))


def separator_of(cells: Sequence[str], known: Collection[str] = ()) -> Mark | None:
    """Return what separates labels in cells; None if each is one label.

    Where labels are known, it is the first way of reading in which all cells hold such; else the first mark there is.
    """
    for mark in (None, *SEPARATORS):
        if known and all(label in known for cell in cells for label in split(cell, mark or "none")):
            return mark
    return next((mark for mark in SEPARATORS if any(mark in cell for cell in cells)), None)


def split(cell: str, separator: str) -> tuple[str, ...]:
    """Return the labels in a cell of text, without the white space around them; nothing between separators is none.

    With `auto`, the cell's own first separator counts, in the order of `SEPARATORS`.
    """
    if separator == "auto":
        separator = next((mark for mark in SEPARATORS if mark in cell), "none")
    parts = [cell] if separator == "none" else cell.split(separator)
    return tuple(filter(None, (part.strip() for part in parts)))

"""Reranking: a cross-encoder reads a query with a passage, and one logit says how probably the passage is relevant."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genus.errors import GenusError, UsageError
from genus.evaluate.metrics import Metric  # a choice is read by its annotation
from genus.evaluate.ranking import MAP, MRR, NDCG, ranks_within
from genus.objectives.supervised import LinearFineTuned
from genus.objectives.supervised.multi_label import MultiLabelClassification
from genus.tasks import Task
from genus.tasks.cell import label_in, written
from genus.tasks.checks import contradictory, overlap, repeated, skewed
from genus.tasks.dataset import LabeledRow
from genus.tasks.encode import EncodedTexts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.objectives.supervised import FineTuned
    from genus.tasks.answer import Outputs
    from genus.tasks.dataset import Label
    from genus.tokens.tokenizer import Tokenizer

RELEVANT = "relevant"
"""The one label of which the logit is."""
MARKS = {"1": True, "0": False, "True": True, "False": False, "true": True, "false": False}
"""What a column of relevance holds, as `written` gives it."""


class Reranking(Task):
    """Reranking: the binary cross-entropy of one logit for a query with a passage, and metrics of rankings by it.

    It is multi-label classification with one label, in which Hugging Face's class and sentence-transformers'
    `CrossEncoder` have one output. Passages are ranked within the rows of a query.

    Source: Nogueira and Cho 2019 (arXiv:1901.04085), section 3.1, with one logit in place of two.
    """

    learns: ClassVar = MultiLabelClassification
    answers: ClassVar = "score"
    judged: ClassVar[tuple[str, ...]] = ("rankings",)
    checks: ClassVar = (overlap, repeated, contradictory, skewed)

    texts: tuple[str, ...] = ("query", "passage")
    group: str = ""
    """The column with the id of the query; empty: rows with the same first text are of one query."""
    metrics: tuple[Metric, ...] = (MRR(), NDCG(), MAP())

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: other than two columns of texts, both orders of them, or a metric of others than rankings.
        """
        super().__post_init__()
        if len(self.texts) != 2:
            raise UsageError(f"texts: expected the columns of query and passage, got {len(self.texts)}")
        if self.symmetric:
            raise UsageError("symmetric: a query and a passage have one order")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of texts and, if it is named, of the query's id."""
        return self.texts + ((self.group,) if self.group else ())

    def row(self, line: int, row: dict[str, Any]) -> LabeledRow:
        """Return a row, whose own name is that of its query.

        Raises:
            ValueError: a column holds something else.
        """
        texts, label = self.read(row)
        return LabeledRow(line, texts, label, id=written(row[self.group], self.group) if self.group else None)

    def read(self, row: dict[str, Any]) -> tuple[tuple[str, ...], Label | None]:
        """Return query and passage, and `1` where the passage is relevant, `0` where it is not.

        Raises:
            ValueError: a column holds something else.
        """
        texts, _ = super().read(row)
        mark = label_in(row, self.label)
        if mark is not None and mark not in MARKS:
            raise ValueError(f"column {self.label!r} holds {mark!r:.40}, and not 0 or 1 for whether the passage is "
                             "relevant")  # fmt: skip
        return texts, None if mark is None else str(int(MARKS[mark]))

    def objective(self, labels: Sequence[str]) -> MultiLabelClassification:
        """Return the objective of one label.

        Raises:
            GenusError: all rows are relevant, or none is.
        """
        if len({*labels}) == 1:
            raise GenusError(f"column {self.label!r}: all rows have the label {labels[0]!r}; nothing is to be learned")
        return MultiLabelClassification(labels=(RELEVANT,), texts=2)

    def resolved_for(self, objective: FineTuned) -> Task:
        """Return the task; another laboratory's cross-encoder with one output, which is read as a regression, fits too.

        Raises:
            UsageError: the model has other outputs.
        """
        if isinstance(objective, LinearFineTuned) and objective.pooled and objective.outputs == 1:
            return self
        return super().resolved_for(objective)

    def targets(
        self, rows: Sequence[LabeledRow], objective: FineTuned, path: Path | None = None
    ) -> NDArray[np.float32]:
        """Return (rows, 1) whether the passages are relevant; NaN where it is not said."""
        return np.array([[np.nan if row.label is None else float(row.labels[0])] for row in rows], np.float32)

    def encode(
        self,
        tokenizer: Tokenizer,
        rows: Sequence[LabeledRow],
        objective: FineTuned,
        max_length: int,
        path: Path | None = None,
    ) -> EncodedTexts:
        """Tokenize the pairs, truncated to `max_length` tokens.

        Raises:
            GenusError: `max_length` leaves no room for text.
        """
        found = super().encode(tokenizer, rows, objective, max_length, path)
        groups = [row.texts[0] if row.id is None else row.id for row in rows]
        own = {field.name: getattr(found, field.name) for field in fields(found)}
        return Candidates(**own, groups=groups)


@dataclass(frozen=True)
class Candidates(EncodedTexts):
    """Tokenized pairs of a query and a passage, with the query of each."""

    groups: list[str]

    def for_metrics(self, objective: FineTuned, outputs: Outputs, judges: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return, by query, how many labeled passages are relevant, and their ranks."""
        known = ~np.isnan(self.labels[:, 0])
        groups = [group for group, there in zip(self.groups, known, strict=True) if there]
        return ranks_within(outputs.values[known, 0], self.labels[known, 0] > 0, groups)

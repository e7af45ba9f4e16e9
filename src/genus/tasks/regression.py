"""Regression on single and paired texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from genus.evaluate.metrics import Metric, Pearson, Spearman
from genus.objectives.supervised.sequence import SequenceRegression
from genus.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Sequence


class Regression(Task):
    """A number, in the units of the labels."""

    learns: ClassVar = SequenceRegression
    metrics: tuple[Metric, ...] = (Spearman(), Pearson())

    def objective(self, labels: Sequence[str]) -> SequenceRegression:
        """Return the squared error."""
        return SequenceRegression(dropout=self.dropout)

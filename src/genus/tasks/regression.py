"""Regression on single and paired texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.evaluate.metrics import Metric, Pearson, Spearman
from genus.objectives.sequence import Regress
from genus.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Iterable


class Regression(Task):
    """A number, in the units of the labels."""

    metrics: tuple[Metric, ...] = (Spearman(), Pearson())

    def objective(self, labels: Iterable[str]) -> Regress:
        """Return the squared error."""
        return Regress(dropout=self.dropout)

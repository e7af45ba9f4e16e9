"""Sequence regression: single texts and text pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from genus.evaluate.metrics import Metric, Pearson, Spearman
from genus.objectives.supervised.sequence import SequenceRegression
from genus.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Sequence


class Regression(Task):
    """Sequence regression: each text or pair has one value, in the units of the labels."""

    learns: ClassVar = SequenceRegression
    metrics: tuple[Metric, ...] = (Spearman(), Pearson())

    def objective(self, labels: Sequence[str]) -> SequenceRegression:
        """Return the objective of squared error, which the labels do not change."""
        return SequenceRegression()

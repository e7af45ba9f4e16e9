"""Sequence regression: single texts and text pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from genus.errors import GenusError
from genus.evaluate.metrics import Metric, Pearson, Spearman
from genus.objectives.supervised.sequence import SequenceRegression
from genus.tasks import Task
from genus.tasks.checks import contradictory, leak, overlap, repeated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.tasks.dataset import Label


RESOLUTION = 100 * float(np.finfo(np.float32).eps)
"""Least ratio of standard deviation and mean at which float32 has a hundred numbers within a standard deviation."""


class Regression(Task):
    """Sequence regression: each text or pair has one value, in the units of the labels."""

    learns: ClassVar = SequenceRegression
    answers: ClassVar = "score"
    judged: ClassVar[tuple[str, ...]] = ("numbers",)
    checks: ClassVar = (overlap, repeated, contradictory, leak)

    metrics: tuple[Metric, ...] = (Spearman(), Pearson())

    def objective(self, labels: Sequence[str]) -> SequenceRegression:
        """Return the objective of squared error of the labels, standardized by their mean and standard deviation.

        Raises:
            GenusError: all labels are equal, or nearly so.
        """
        plain = SequenceRegression(texts=self.texts_each, symmetric=self.symmetric)
        numbers = np.array([plain.label_of(label) for label in labels], np.float64)
        if np.ptp(numbers) == 0:
            raise GenusError(f"column {self.label!r}: all rows have the label {labels[0]!r}; nothing is to be learned")
        mean, std = float(numbers.mean()), float(numbers.std())
        if std < RESOLUTION * abs(mean):
            raise GenusError(
                f"column {self.label!r}: the labels differ by {std:.1e} from {mean:.6g}, which float32 does not tell "
                "apart; subtract a constant from them"
            )
        return replace(plain, mean=mean, std=std)

    def read(self, row: dict[str, Any]) -> tuple[tuple[str, ...], Label | None]:
        """Return texts and label of a row of a table, which must have the columns of the texts.

        Raises:
            ValueError: a column holds something else, or the label is no number.
        """
        texts, label = super().read(row)
        SequenceRegression().label_of(cast("str | None", label))
        return texts, label

"""Sequence regression: single texts and text pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.errors import GenusError
from genus.evaluate.metrics import Metric, Pearson, Spearman
from genus.objectives.supervised.sequence import SequenceRegression
from genus.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Sequence


class Regression(Task):
    """Sequence regression: each text or pair has one value, in the units of the labels."""

    learns: ClassVar = SequenceRegression
    judged: ClassVar[str] = "numbers"

    metrics: tuple[Metric, ...] = (Spearman(), Pearson())

    def objective(self, labels: Sequence[str]) -> SequenceRegression:
        """Return the objective of squared error of the labels, standardized by their mean and standard deviation.

        Raises:
            GenusError: a label is no number, or all are equal.
        """
        plain = SequenceRegression(dropout=self.dropout, texts=self.texts_each)
        try:
            numbers = np.array([plain.label_of(label) for label in labels], np.float64)
        except ValueError as error:
            raise GenusError(f"column {self.label!r}: {error}") from None
        if np.ptp(numbers) == 0:
            raise GenusError(f"column {self.label!r}: all rows have the label {labels[0]!r}; nothing is to be learned")
        return replace(plain, mean=float(numbers.mean()), std=float(numbers.std()))

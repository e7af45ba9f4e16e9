"""Metrics of multi-label classification, equal to scikit-learn's: decisions for each label, and rankings by scores.

The truth (N, C) is bool: which of C labels N texts have. Predictions are decisions (N, C) of the same kind, or scores
(N, C), larger for what is more probable. F1 of a label, or a text, that is in the truth nowhere is 0, as scikit-learn
has it by default (`zero_division=0`); the signature says of how many.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from genus.evaluate.metrics import Metric, ranks

if TYPE_CHECKING:
    from numpy.typing import NDArray


Per = Literal["text", "label"]


@dataclass(frozen=True)
class LabelCounts:
    """How many labels of each text, or texts of each label, are right, told and true: K counts of each."""

    per: Per
    """Of what the counts are: K is N or C."""
    right: NDArray[np.int64]
    told: NDArray[np.int64]
    true: NDArray[np.int64]
    width: int
    """The most that a count can be, C or N."""

    @classmethod
    def of(cls, truth: NDArray[np.bool_], told: NDArray[np.bool_], per: Per) -> LabelCounts:
        """Return the counts of decisions (N, C)."""
        axis = 1 if per == "text" else 0
        return cls(per, (truth & told).sum(axis), told.sum(axis), truth.sum(axis), truth.shape[axis])

    def changed(self, label: int, true: NDArray[Any], before: NDArray[Any], after: NDArray[Any]) -> LabelCounts:
        """Return the counts with other decisions (N,) on one label, given its truth (N,)."""
        told, right = after.astype(np.int64) - before, (true & after).astype(np.int64) - (true & before)
        if self.per == "text":
            return replace(self, right=self.right + right, told=self.told + told)
        one = np.arange(len(self.true)) == label
        return replace(self, right=self.right + one * right.sum(), told=self.told + one * told.sum())


class LabelMetric(Metric):
    """A metric of decisions for each text and label: a function of counts per text, or per label."""

    judges: ClassVar[str] = "labels"
    per: ClassVar[Per] = "text"
    """What the counts are of."""

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the metric of decisions (N, C), 0 for no texts."""
        return self.of(LabelCounts.of(truth, predicted, self.per)) if len(truth) else 0.0

    @abstractmethod
    def of(self, counts: LabelCounts) -> float:
        """Return the metric of counts."""


class LabelMicroF1(LabelMetric):
    """Micro-averaged F1: 2 right / (told + true), over all texts and labels together."""

    def defined(self, truth: NDArray[Any]) -> bool:
        """Return whether any text has a label."""
        return bool(truth.any())

    def of(self, counts: LabelCounts) -> float:
        """Return 2 Σ right / Σ (told + true)."""
        either = counts.told.sum() + counts.true.sum()
        return float(2 * counts.right.sum() / either) if either else 0.0


class LabelMacroF1(LabelMetric):
    """Macro-averaged F1: the mean over labels of 2 right / (told + true)."""

    per: ClassVar[Per] = "label"

    def defined(self, truth: NDArray[Any]) -> bool:
        """Return whether any text has a label."""
        return bool(truth.any())

    def signature(self, truth: NDArray[Any]) -> str:
        """Return how many labels occur nowhere in the truth, and so count as 0."""
        return _absent((~truth.any(0)).sum(), truth.shape[1], "labels are of no text")

    def of(self, counts: LabelCounts) -> float:
        """Return the mean of the F1 of each label."""
        return _mean_f1(counts)


class SampleF1(LabelMetric):
    """Sample-averaged F1: the mean over texts of 2 right / (told + true)."""

    def defined(self, truth: NDArray[Any]) -> bool:
        """Return whether any text has a label."""
        return bool(truth.any())

    def signature(self, truth: NDArray[Any]) -> str:
        """Return how many texts have no label, and so count as 0."""
        return _absent((~truth.any(1)).sum(), len(truth), "texts have no label")

    def of(self, counts: LabelCounts) -> float:
        """Return the mean of the F1 of each text."""
        return _mean_f1(counts)


class SubsetAccuracy(LabelMetric):
    """Subset accuracy, or exact match: the fraction of texts of which all labels are right, and no other is told."""

    def of(self, counts: LabelCounts) -> float:
        """Return the fraction of texts whose counts are equal."""
        return float(((counts.right == counts.told) & (counts.right == counts.true)).mean())


class HammingLoss(LabelMetric):
    """Hamming loss: the fraction of wrong decisions over all texts and labels."""

    larger_is_better: ClassVar[bool] = False

    def of(self, counts: LabelCounts) -> float:
        """Return Σ (told + true - 2 right) / (N C)."""
        wrong = counts.told.sum() + counts.true.sum() - 2 * counts.right.sum()
        return float(wrong / (len(counts.true) * counts.width))


class LabelRankingAveragePrecision(Metric):
    """Label-ranking average precision: how much of what ranks at least as high as a true label is true as well.

    It is the mean over texts of the mean over a text's true labels of (true labels, labels) with at least its score, as
    a ratio. A text with no label, or with all of them, has 1 (Tsoumakas et al. 2010, section 7; scikit-learn).
    """

    judges: ClassVar[str] = "label scores"

    def defined(self, truth: NDArray[Any]) -> bool:
        """Return whether any text has some of the labels and lacks others."""
        return bool((truth.any(1) & ~truth.all(1)).any())

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the mean over texts, 0 for none."""
        if not len(truth):
            return 0.0
        order = np.argsort(-predicted, axis=1, kind="stable")
        true, scores = (np.take_along_axis(side, order, 1) for side in (truth, predicted))
        places = np.arange(truth.shape[1])
        ends = np.where(np.diff(scores, axis=1, append=np.nan) != 0, places, len(places))  # of equal scores, the last
        last = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
        ratio = np.take_along_axis(np.cumsum(true, axis=1), last, 1) / (last + 1)
        number = true.sum(1)
        mean = (ratio * true).sum(1) / np.maximum(number, 1)
        return float(np.where((number == 0) | (number == len(places)), 1.0, mean).mean())


class MacroAuroc(Metric):
    """Macro-averaged area under the ROC curve, over the labels that some texts have and others lack.

    Of a label it is the probability that a text with it scores higher than one without, ties half: the Mann-Whitney
    statistic of the ranks.
    """

    judges: ClassVar[str] = "label scores"

    def defined(self, truth: NDArray[Any]) -> bool:
        """Return whether any label is of some texts and not of others."""
        return bool(_both(truth).any())

    def signature(self, truth: NDArray[Any]) -> str:
        """Return over how many labels it is the mean, if not over all."""
        both = _both(truth)
        return (
            "" if both.all() else f"over {both.sum():,} of {len(both):,} labels; all or none of the texts have others"
        )

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the mean over the labels that have an area, 0 if none has."""
        areas = [_area(truth[:, label], predicted[:, label]) for label in np.flatnonzero(_both(truth))]
        return float(np.mean(areas)) if areas else 0.0


def _both(truth: NDArray[Any]) -> NDArray[np.bool_]:
    """Return (C,) which labels some texts have and others lack."""
    return np.asarray(truth.any(0) & ~truth.all(0))


def _area(truth_N: NDArray[Any], scores_N: NDArray[Any]) -> float:
    positive = int(truth_N.sum())
    above = ranks(scores_N)[truth_N].sum() - positive * (positive + 1) / 2
    return float(above / (positive * (len(truth_N) - positive)))


def _mean_f1(counts: LabelCounts) -> float:
    either = counts.told + counts.true
    return float((2 * counts.right / np.maximum(either, 1)).mean())


def _absent(number: int, total: int, what: str) -> str:
    return f"{number:,} of {total:,} {what}, and count as 0 (zero_division=0)" if number else ""

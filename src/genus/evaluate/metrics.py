"""The slot `Metric`: metrics of predictions against the truth, in numpy.

Legend: N examples, C classes with indices 0..C-1. Whether a metric is defined depends on the truth alone, so that it is
for all predictions alike. Predictions that do not vary have no correlation with a truth that does: 0.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genus.part import Part, slots_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray


LIKELIHOOD = "texts"
"""What metrics judge that need no text to be written."""


class Metric(Part, ABC):
    """A choice of evaluation metric."""

    judges: ClassVar[str] = "classes"
    """What it compares: `classes`, `numbers`, the `tags` of words, several `labels` of a text or the `label scores` of
    all, the likelihood of `texts`, or `written texts`."""
    larger_is_better: ClassVar[bool] = True
    """Whether larger values are better; otherwise smaller ones are, as of a loss."""

    @property
    def name(self) -> str:
        """The kind in snake case: the metric's key in results."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    def rank(self, value: float | None) -> float:
        """Return a number that is larger for better values; the least where the metric is undefined."""
        if value is None:
            return -math.inf
        return value if self.larger_is_better else -value

    def misfit(self, judged: Collection[str], classes: Sequence[str] = ()) -> str:
        """Return why the metric says nothing of such labels, with these classes if they are known; empty if it does."""
        return "" if self.judges in judged else f"judges {self.judges}, not {' or '.join(judged)}"

    def defined(self, truth: NDArray[Any]) -> bool:
        """Return whether the metric has a value for this truth (N,)."""
        return len(truth) > 0

    def signature(self, truth: NDArray[Any]) -> str:
        """Return which of several definitions is computed for this truth; empty where there is but one."""
        return ""

    def summands(self, truth: NDArray[Any], predicted: NDArray[Any]) -> NDArray[Any] | None:
        """Return numbers (N, K) of each example of whose sums the metric is a function; None: it is of no such.

        With them a metric of resampled examples costs a sum, where it would take words or tags apart again.
        """
        return None

    def of_sums(self, sums_K: NDArray[Any]) -> float:
        """Return the metric for sums (K,) of `summands`."""
        raise NotImplementedError(f"{type(self).__name__} is no function of sums")

    @abstractmethod
    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the metric of predictions (N,) for the truth (N,); 0 where it is undefined."""


def fitting_metrics(judged: Collection[str], classes: Sequence[str] = ()) -> list[str]:
    """Return the names of all metrics that fit such labels."""
    found: list[Any] = list(slots_of(Metric).values())  # type: ignore[type-abstract]  # a slot is abstract
    return sorted(kind().name for kind in found if not kind().misfit(judged, classes))


def confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the confusion matrix (C, C): counts, true classes in rows, predicted classes in columns."""
    classes = 1 + max(truth.max(initial=0), predicted.max(initial=0))
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


class Accuracy(Metric):
    """Accuracy: the fraction of examples whose class is right."""

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the fraction of equal entries, 0 for no examples."""
        return float((truth == predicted).mean()) if len(truth) else 0.0


class F1(Metric):
    """F1 of one class: 2 TP / (2 TP + FP + FN).

    An answer that is neither of the two classes, as a text may be, counts as the wrong one (released code of T5,
    t5/evaluation/metrics.py, f1_score_with_invalid).
    """

    positive: int = 1
    """Index of the class: 1 is `paraphrase` in MRPC and QQP."""

    def misfit(self, judged: Collection[str], classes: Sequence[str] = ()) -> str:
        """Return why the metric does not fit: it is of one of two classes."""
        several = f"is of one class of two, and there are {len(classes)}" if len(classes) not in (0, 2) else ""
        return super().misfit(judged, classes) or several

    def defined(self, truth: NDArray[Any]) -> bool:
        """Return whether the class occurs in the truth."""
        return bool((truth == self.positive).any())

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the harmonic mean of the class's precision and recall, 0 if the class does not occur."""
        if truth.max(initial=0) < 2:
            predicted = np.where(predicted > 1, 1 - truth, predicted)
        hit = int(((truth == self.positive) & (predicted == self.positive)).sum())
        either = int((truth == self.positive).sum() + (predicted == self.positive).sum())
        return 2 * hit / either if either else 0.0


class MacroF1(Metric):
    """Macro-averaged F1 over the classes that occur in the truth or in the predictions."""

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the unweighted mean of the classes' F1."""
        table = confusion(truth, predicted)
        either = table.sum(0) + table.sum(1)
        occurs = either > 0
        return float((2 * table.diagonal()[occurs] / either[occurs]).mean()) if occurs.any() else 0.0


class Matthews(Metric):
    """Matthews correlation coefficient; R_K for more than two classes (Gorodkin 2004, equation 8)."""

    def defined(self, truth: NDArray[Any]) -> bool:
        """Return whether the truth has several classes."""
        return _varies(truth)

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return cov(truth, predicted) / sqrt(cov(truth, truth) cov(predicted, predicted)) over one-hot classes."""
        table = confusion(truth, predicted).astype(np.float64)
        true_C, predicted_C, total = table.sum(1), table.sum(0), table.sum()
        both = total * table.trace() - true_C @ predicted_C
        scale = np.sqrt((total**2 - true_C @ true_C) * (total**2 - predicted_C @ predicted_C))
        return float(both / scale) if scale else 0.0


class Pearson(Metric):
    """Pearson's linear correlation of real values."""

    judges: ClassVar[str] = "numbers"

    def defined(self, truth: NDArray[Any]) -> bool:
        """Return whether the truth varies."""
        return _varies(truth)

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return cov(truth, predicted) / (std(truth) std(predicted))."""
        if len(truth) < 2 or np.ptp(truth) == 0 or np.ptp(predicted) == 0:
            return 0.0
        x, y = (np.asarray(v, np.float64) - np.mean(v, dtype=np.float64) for v in (truth, predicted))
        x, y = x / np.abs(x).max(), y / np.abs(y).max()
        return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1, 1))


class Spearman(Metric):
    """Spearman's rank correlation: Pearson's correlation of the ranks; ties share their mean rank."""

    judges: ClassVar[str] = "numbers"

    def defined(self, truth: NDArray[Any]) -> bool:
        """Return whether the truth varies."""
        return _varies(truth)

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return Pearson's correlation of the ranks, 0 if undefined."""
        return Pearson()(ranks(truth), ranks(predicted))


def _varies(truth: NDArray[Any]) -> bool:
    return len(truth) > 1 and bool(np.ptp(truth) > 0)


def ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the ranks (N,) of the values, counted from 1; equal values share their mean rank."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[which], np.float64)

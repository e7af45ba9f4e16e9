"""Precision, recall and F1 of each class, label or type of entity, with their averages, as scikit-learn reports them.

Legend: C classes, N texts. A ratio without a denominator is 0 (`zero_division=0`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.evaluate.tags import entities, scheme_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How well one class is told, or the average over classes."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    """How many are of the class in truth."""


@dataclass(frozen=True, slots=True)
class ClassReport:
    """The scores of the classes that occur in truth or predictions, and their averages."""

    classes: list[ClassScore]
    averages: list[ClassScore]
    """`micro`, over all decisions together; `macro`, the mean over classes; `weighted`, by support."""

    @classmethod
    def of(cls, names: Sequence[str], right_C: NDArray[Any], told_C: NDArray[Any], true_C: NDArray[Any]) -> ClassReport:
        """Return the report of the numbers of right, told and true decisions of each class."""
        occurs = np.flatnonzero(told_C + true_C)
        right, told, true = (side[occurs].astype(np.float64) for side in (right_C, told_C, true_C))
        scores_3C = _three(right, told, true)
        found = [
            _scored(names[place], scores_3C[:, number], true[number]) for number, place in enumerate(occurs.tolist())
        ]
        if not found:
            return cls([], [])
        total = true.sum()
        kinds = {
            "micro": _three(right.sum(), told.sum(), total),
            "macro": scores_3C.mean(1),
            "weighted": _ratio(scores_3C @ true, np.full(3, total)),
        }
        return cls(found, [_scored(f"{kind} average", scores, total) for kind, scores in kinds.items()])

    @classmethod
    def of_confusion(cls, names: Sequence[str], table_CC: NDArray[np.int64]) -> ClassReport:
        """Return the report of a confusion matrix, true classes in rows."""
        return cls.of(names, table_CC.diagonal(), table_CC.sum(0), table_CC.sum(1))

    @classmethod
    def of_labels(cls, names: Sequence[str], truth_NC: NDArray[np.bool_], told_NC: NDArray[np.bool_]) -> ClassReport:
        """Return the report of decisions on each label of each text, with the average over texts, `samples`."""
        both_NC = truth_NC & told_NC
        found = cls.of(names, both_NC.sum(0), told_NC.sum(0), truth_NC.sum(0))
        if not found.averages:
            return found
        right, told, true = (side.sum(1).astype(np.float64) for side in (both_NC, told_NC, truth_NC))
        each = _scored("samples average", _three(right, told, true).mean(1), true.sum())
        return cls(found.classes, [*found.averages, each])

    @classmethod
    def of_entities(cls, truth: Sequence[Sequence[str]], told: Sequence[Sequence[str]]) -> ClassReport:
        """Return the report of the types of entities, read by the scheme of the truth, as seqeval does."""
        scheme, counts = scheme_of(truth), [Counter[str]() for _ in range(3)]
        for given, answered in zip(truth, told, strict=True):
            theirs, ours = entities(given, scheme), entities(answered, scheme)
            for counter, found in zip(counts, (theirs & ours, ours, theirs), strict=True):
                counter.update(kind for _, _, kind in found)
        kinds = sorted({kind for counter in counts for kind in counter})
        return cls.of(kinds, *(np.array([counter[kind] for kind in kinds], np.int64) for counter in counts))


def _three(right: Any, told: Any, true: Any) -> NDArray[np.float64]:
    """Return precision, recall and F1 (3, ...) of numbers of decisions."""
    return np.stack([_ratio(right, told), _ratio(right, true), _ratio(2 * right, told + true)])


def _scored(name: str, scores_3: NDArray[np.float64], support: float) -> ClassScore:
    precision, recall, f1 = scores_3.tolist()
    return ClassScore(name, precision, recall, f1, int(support))


def _ratio(above: Any, below: Any) -> NDArray[np.float64]:
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.asarray(np.divide(above, below, out=np.zeros_like(above), where=below != 0))

"""Thresholds of multi-label decisions, tuned for a metric: one for all labels, or one for each.

Legend: N texts, C labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.evaluate.label_metrics import LabelCounts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.evaluate.label_metrics import LabelMetric

HALF = 0.5
CANDIDATES, OF_EACH = 256, 64
"""The most thresholds that are tried for all labels, and for one; more differ by less than validation tells."""
ROUNDS = 10
"""The most rounds over the labels; after two or three nothing changes."""


def one_threshold(truth: NDArray[np.bool_], chances: NDArray[np.float64], metric: LabelMetric) -> float:
    """Return the threshold for all labels with the best metric; of equal ones the one nearest to 0.5.

    Args:
        truth: (N, C) which labels the texts have.
        chances: (N, C) their probabilities.
        metric: compares decisions; it must not fall where a label is right that was missed, nor rise where one is
            told that is wrong, so that the best threshold lies just below the probability of a label that is true.
    """

    def value(threshold: float) -> float:
        return metric.rank(metric(truth, chances > threshold))

    options: list[float] = candidates(truth, chances, CANDIDATES).tolist()
    return max(options, key=lambda threshold: (value(threshold), -abs(threshold - HALF)))


def threshold_of_each(
    truth: NDArray[np.bool_], chances: NDArray[np.float64], metric: LabelMetric
) -> NDArray[np.float64]:
    """Return thresholds (C,), one for each label, by cyclic optimization from the one that is best for all.

    Label after label gets the threshold with the best metric, given those of the others, until none changes. For a
    macro average each label's is the best by itself; a micro average depends on all, and its value never falls. A label
    that no text has keeps the common threshold: nothing shows at which it would be right.

    Source: Fan and Lin 2007, "A Study on Threshold Selection for Multi-label Classification".
    """
    found = np.full(truth.shape[1], one_threshold(truth, chances, metric))
    counts = LabelCounts.of(truth, chances > found, metric.per)
    tried = [candidates(truth[:, label], chances[:, label], OF_EACH) for label in range(len(found))]
    for _ in range(ROUNDS):
        before = found.copy()
        for label in np.flatnonzero(truth.any(0)).tolist():
            options = np.append(found[label], tried[label])  # of equal ones the first: it stays
            true, chance = truth[:, label], chances[:, label]
            changed = [counts.changed(label, true, chance > found[label], chance > one) for one in options]
            best = int(np.argmax([metric.rank(metric.of(one)) for one in changed]))
            found[label], counts = options[best], changed[best]
        if np.array_equal(found, before):
            break
    return found


def candidates(truth: NDArray[np.bool_], chances: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Return thresholds of which the best is one: 0.5, over all probabilities, and below that of each true label.

    Below means halfway to the next smaller probability. Of more than `most`, evenly spaced ones in order are kept.
    """
    known = np.unique(np.append(chances, 0.0))
    at = np.searchsorted(known, np.unique(chances[truth]))
    below = (known[at] + known[np.maximum(at - 1, 0)]) / 2
    if len(below) > most:
        below = below[np.linspace(0, len(below) - 1, most).round().astype(np.int64)]
    found = np.append(below, [HALF, (known[-1] + 1) / 2])
    return found[found < 1]

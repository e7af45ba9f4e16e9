"""Thresholds of decisions, tuned on examples of which the truth is known: of a choice to answer, of several labels.

Legend: N texts, C labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.evaluate.label_metrics import LabelCounts
from genus.objectives.supervised.multi_label import HALF

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.evaluate.label_metrics import LabelMetric

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


def best_threshold(scores_N: NDArray[np.float64], gains_N: NDArray[np.float64]) -> float:
    """Return the least threshold t for which the sum of gains over examples with score <= t is largest.

    That is a score, or 1 below the least one where it is best to take none.

    Source: released code of SQuAD 2.0, evaluate-v2.0.py: find_best_thresh, with scores as `na_prob` and gains over no
    answer. Deviations: examples of equal scores are taken together, as a threshold does, and where it is best to take
    none the threshold is such (there 0, whatever scores are).

    Args:
        scores_N: by which examples are taken or left; at least one.
        gains_N: what is gained by an example if it is taken.
    """
    order = np.argsort(scores_N, kind="stable")
    scores, sums = scores_N[order], gains_N[order].cumsum()
    last = np.append(scores[1:] > scores[:-1], True)
    best = int(np.where(last, sums, -np.inf).argmax())
    return float(scores[best]) if sums[best] > 0 else float(scores[0]) - 1

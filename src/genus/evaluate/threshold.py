"""The threshold of a decision, chosen on examples of which it is known what either way gains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


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

"""Scores of written programs: pass@k, and the share of problems that the best-ranked sample solves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from genus.evaluate.interval import Interval, bootstrapped_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.evaluate.code.samples import Sample

KS = (1, 10, 100)
"""Of pass@k (Chen et al. 2021, table 1), where there are as many samples."""
BEST = "best_ranked"


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Return the unbiased estimate of the chance that one of k samples is correct (Chen et al. 2021, section 2.1).

    1 - C(n - c, k) / C(n, k) for c correct ones of n samples, as a product of n - c numbers without large factors:
    1 - Π (1 - k / i) over i from n - c + 1 to n.

    Raises:
        ValueError: there are fewer samples than k.
    """
    if not 0 <= correct <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {correct} correct samples of {samples}")
    return 1 - math.prod(max(0.0, 1 - k / one) for one in range(samples - correct + 1, samples + 1))


def scores(problems: Sequence[Sequence[Sample]], ks: Sequence[int] = KS) -> dict[str, Interval]:
    """Return means over problems, given the samples of each, with bootstrap intervals over problems.

    `pass@k` for every k up to the number of samples, and `best_ranked`: whether the sample of the highest mean
    log-probability is correct (Chen et al. 2021, section 3.3), the first of equal ones.
    """
    correct = [[sample.result == "passed" for sample in samples] for samples in problems]
    fewest = min(map(len, problems))
    found = {
        f"pass@{k}": bootstrapped_mean([pass_at_k(len(those), sum(those), k) for those in correct])
        for k in ks
        if k <= fewest
    }
    best = [max(samples, key=lambda sample: sample.mean_log_probability) for samples in problems]
    return found | {BEST: bootstrapped_mean([float(sample.result == "passed") for sample in best])}

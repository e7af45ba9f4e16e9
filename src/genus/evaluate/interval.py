"""Confidence intervals: Student's t of a mean over seeds, Wilson's of a share, the paired bootstrap of a difference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from genus.evaluate.metrics import Metric


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its confidence interval; a single run has no interval."""

    mean: float
    low: float | None
    high: float | None
    runs: int
    """Number of independent runs, or of resampled examples."""

    def __str__(self) -> str:
        """Return the mean and the interval, such as `0.9120 [0.9040, 0.9200]`."""
        return f"{self.mean:.4f}" if self.low is None else f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the mean of n independent runs ± t s / sqrt(n); t is Student's quantile for n - 1 degrees of freedom."""
    runs, mean = len(values), math.fsum(values) / len(values)
    if runs == 1:
        return Interval(mean, None, None, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (runs - 1))
    half = t_quantile(confidence, runs - 1) * deviation / math.sqrt(runs)
    return Interval(mean, mean - half, mean + half, runs)


def t_quantile(confidence: float, freedom: int) -> float:
    """Return the two-sided Student quantile: the t with P(|T| < t) = confidence, found by bisection."""
    low, high = 0.0, 1.0
    while t_within(high, freedom) < confidence:
        high *= 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if t_within(middle, freedom) < confidence else (low, middle)
    return high


def t_within(t: float, freedom: int) -> float:
    """Return P(|T| < t) under Student's t distribution (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine**2 * (power - 1) / power
    if odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total


def paired_bootstrap(
    metric: Metric,
    truth: NDArray[Any],
    ours: NDArray[Any],
    theirs: NDArray[Any],
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Paired bootstrap: metric(ours) - metric(theirs) on the same examples, with its percentile interval.

    The test set is resampled `draws` times; see `bootstrap`.
    """
    one, other = (of_chosen(metric, truth, predicted) for predicted in (ours, theirs))
    return bootstrap(
        lambda chosen: one(chosen) - other(chosen), len(truth), confidence=confidence, draws=draws, seed=seed
    )


def of_chosen(metric: Metric, truth: NDArray[Any], predicted: NDArray[Any]) -> Callable[[NDArray[np.int64]], float]:
    """Return the metric as a function of the indices of examples, which may repeat.

    What the whole truth decides, as the scheme of its tags, stays as it is.
    """
    if (summands_NK := metric.summands(truth, predicted)) is not None:
        return lambda chosen: metric.of_sums(summands_NK[chosen].sum(0))
    return lambda chosen: metric(truth[chosen], predicted[chosen])


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float],
    examples: int,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Bootstrap: a statistic of examples, with its percentile interval (Efron and Tibshirani 1993, section 13.3).

    Args:
        statistic: of the examples with these indices.
        examples: how many there are; each resample has as many, drawn with replacement, and one is in memory at a time.
        confidence: probability of the interval.
        draws: number of resamples.
        seed: of the resamples.
    """
    rng = np.random.default_rng(seed)
    found = [statistic(rng.integers(examples, size=examples)) for _ in range(draws)]
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(statistic(np.arange(examples)), float(low), float(high), examples)


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Return a share of independent trials with the score interval of Wilson 1927, which holds for few trials too.

        (p + z^2 / 2n ± z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n),        p = successes / n

    Args:
        successes: trials that succeeded.
        trials: n, at least 1.
        confidence: probability of the interval; z is the normal quantile of (1 + confidence) / 2.
    """
    share, z = successes / trials, NormalDist().inv_cdf((1 + confidence) / 2)
    scale, middle = 1 + z * z / trials, share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    low = 0.0 if successes == 0 else (middle - half) / scale
    high = 1.0 if successes == trials else (middle + half) / scale
    return Interval(share, low, high, trials)


def bootstrapped_mean(
    values: Sequence[float], *, confidence: float = 0.95, draws: int = 2000, seed: int = 0
) -> Interval:
    """Return a mean over examples with its percentile bootstrap interval; see `bootstrap`."""
    found = np.asarray(values, dtype=np.float64)
    return bootstrap(
        lambda chosen: float(found[chosen].mean()), len(found), confidence=confidence, draws=draws, seed=seed
    )

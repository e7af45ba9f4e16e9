"""Ranks of rows that intervals separate: paired differences over seeds, ties, and what differences could be shown.

Legend: R rows, S seeds, y_rs the score of row r with seed s, d_s = y_as - y_bs of two rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from genus.evaluate.interval import Interval, interval, t_quantile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONFIDENCE = 0.95
POWER = 0.8
"""Probability with which a difference is shown that is as large as the power statement says."""
PLACES = 1500
"""Of the numerical integral over the distribution of the standard deviation."""
LEAST, WIDEST = 1e-9, 12.0
"""Where the integral begins, as a share of 1 / t, and how many standard deviations over the mean it ends."""

Scores = dict[int, float]
"""By seed."""


@dataclass(frozen=True)
class Difference:
    """One row minus another, over the seeds that both have."""

    over: Interval
    """Student's interval of the mean of d_s at 95 %."""
    joint: Interval
    """The same at the level at which all pairs of rows hold together (Bonferroni)."""
    deviation: float | None
    """Standard deviation of d_s; None of one seed."""

    @property
    def side(self) -> int:
        """1 or -1 where the joint interval is on that side of 0. Else 0: also where all d_s are equal.

        Equal differences say that a score has few possible values, not that seeds do nothing.
        """
        if self.joint.low is None or self.joint.high is None or not self.deviation:
            return 0
        return int(self.joint.low > 0) - int(self.joint.high < 0)


def paired(ours: Scores, theirs: Scores, pairs: int = 1) -> Difference | None:
    """Return the paired difference of two rows, None where they have no seed in common.

    Args:
        ours: scores by seed.
        theirs: those of the other row.
        pairs: how many pairs of rows are compared, for the joint interval: of confidence 1 - 0.05 / pairs.
    """
    apart = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    if not apart:
        return None
    deviation = float(np.std(apart, ddof=1)) if len(apart) > 1 else None
    joint = interval(apart, 1 - (1 - CONFIDENCE) / pairs)
    return Difference(interval(apart, CONFIDENCE), joint, deviation)


def ranked(scores: Mapping[str, Scores], *, larger_is_better: bool = True) -> dict[str, int]:
    """Return the rank of each row: 1 and the number of rows that are shown to be better; ties share a rank.

    Rows are not ranked by their means: one is better than another where the interval of their paired difference, at the
    level of all pairs together, excludes 0. So with one seed all rows have rank 1, and a row between two others may
    be tied with both, though these are apart.
    """
    names, pairs = [*scores], math.comb(len(scores), 2)
    found = dict.fromkeys(names, 1)
    for one, other in combinations(names, 2):
        apart = paired(scores[one], scores[other], pairs)
        side = 0 if apart is None else apart.side * (1 if larger_is_better else -1)
        if side:
            found[other if side > 0 else one] += 1
    return found


def detectable(deviations: Sequence[float], seeds: int, pairs: int = 1, power: float = POWER) -> float | None:
    """Return the smallest true difference that a paired test of so many seeds shows with a probability `power`.

        δ = ncp s / √S,   P(|T'(S - 1, ncp)| > t) = power

    with the noncentral t distribution T', t its critical value at the level of all pairs, and s the root mean square of
    the deviations (Cohen 1988, section 2.2; Student's test is exact for normal d_s).

    Args:
        deviations: standard deviations of paired differences, of each pair of rows.
        seeds: of each row.
        pairs: as in `paired`.
        power: probability to show it.

    Returns:
        None with fewer than two seeds, or where nothing varies.
    """
    spread = math.sqrt(math.fsum(one**2 for one in deviations) / len(deviations)) if deviations else 0.0
    if seeds < 2 or spread == 0.0:
        return None
    level, low, high = 1 - (1 - CONFIDENCE) / pairs, 0.0, 1.0
    while power_of(high, seeds - 1, level) < power:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if power_of(middle, seeds - 1, level) < power else (low, middle)
    return high * spread / math.sqrt(seeds)


def power_of(noncentrality: float, freedom: int, confidence: float) -> float:
    """Return P(|T'| > t) of the noncentral t distribution, t Student's two-sided quantile of that confidence.

    T' = (Z + ncp) / U with U² = χ² / freedom, so that P = ∫ f(u) [Φ(ncp - t u) + Φ(-ncp - t u)] du, by the
    trapezoidal rule over log u: with few degrees of freedom what matters lies near u = 1 / t, which may be very small.
    """
    t = t_quantile(confidence, freedom)
    s = np.linspace(math.log(LEAST / t), math.log(1 + WIDEST / math.sqrt(2 * freedom)), PLACES)
    u = np.exp(s)
    mass = np.exp(freedom * s - freedom * u**2 / 2)  # f(u) u, but for a factor
    beyond = _normal(noncentrality - t * u) + _normal(-noncentrality - t * u)
    return float((mass * beyond).sum() / mass.sum())


def _normal(z: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return Φ(z) = erfc(-z / √2) / 2."""
    return np.array([math.erfc(-one / math.sqrt(2)) / 2 for one in z.tolist()])

"""The statistics of `family.py`: means with intervals, and differences between members and between starts.

Legend: P pretraining seeds, F fine-tuning seeds of each, M members, N rows of a task; y_mp is the mean over F of member
m, seed p.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from family_data import BLIMP
from family_runs import FIRST

from genus.evaluate.interval import Interval, interval, t_quantile
from genus.study.curves import below

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Scores", "Spread", "at", "below", "numbers", "side"]
DRAWS = 1000
CONFIDENCE = 0.95
FREEDOM = 5
"""Degrees of freedom below which no difference between members is claimed: a few runs can agree by luck."""


@dataclass(frozen=True)
class Scores:
    """What a member reached in a task from its starts of one kind."""

    values: NDArray[np.float64]
    """(P, F) scores of runs."""
    above: NDArray[np.float64]
    """(N, P F) numerators, of which and of `below` a score is the ratio of the sums over rows."""
    below: NDArray[np.float64]

    @classmethod
    def of(cls, runs: Sequence[dict[str, Any]], task: str, metric: str) -> Scores:
        """Return the scores of the runs of one member, one a pretraining seed."""
        if task == BLIMP:
            told = numbers([run["pairs"] for run in runs])
            return cls(told.mean(0)[:, None], told, np.ones_like(told))
        found = [run["tasks"][task] for run in runs]
        values = np.array([[one[metric] for one in each["metrics"].values()] for each in found])
        sides = (numbers([line for each in found for line in each[side].values()]) for side in ("above", "below"))
        return cls(values, *sides)

    def drawn(self) -> NDArray[np.float64]:
        """Return the mean score (DRAWS,) over the runs, in resamples of the rows: the same ones for all scores."""
        rows = len(self.above)
        counts = np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), DRAWS).astype(float)
        return ((counts @ self.above) / np.maximum(1e-9, counts @ self.below)).mean(1)

    def over_rows(self, other: Scores | None = None) -> Interval:
        """Return the mean, or the difference from another's on the same rows, with its bootstrap interval over rows."""
        each = self.drawn() - (0.0 if other is None else other.drawn())
        mean = float(self.values.mean() - (0.0 if other is None else other.values.mean()))
        low, high = np.quantile(each, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
        return Interval(mean, low, high, len(self.above))


@dataclass(frozen=True)
class Spread:
    """Values (P, F) of members, scores or differences of them, by whose spread their means have intervals.

    With one pretraining seed the interval of a mean is Student's over the F values, and tells of fine-tuning seeds
    alone. With more, the unit is a pretraining, and the variance between pretrainings is pooled over members.
    """

    values: dict[str, NDArray[np.float64]]

    @property
    def once(self) -> bool:
        """Whether there is one pretraining seed."""
        return next(iter(self.values.values())).shape[0] == 1

    @property
    def single(self) -> bool:
        """Whether there is one run, so that seeds tell nothing."""
        return next(iter(self.values.values())).size == 1

    def varied(self) -> NDArray[np.float64]:
        """Return y of the members whose pretrainings differ at all (M', P)."""
        y = np.stack([each.mean(1) for each in self.values.values()])
        return y[np.ptp(y, 1) > 0]

    def mean(self, member: str) -> Interval:
        """Return a member's mean with its interval."""
        y = self.varied()
        if self.once:
            return interval(self.values[member][0].tolist())
        return _student(float(self.values[member].mean()), y - y.mean(1, keepdims=True), self.freedom(0), 1.0)

    def difference(self, member: str, reference: str) -> Interval:
        """Return the difference of two members with its interval, paired by seeds."""
        apart = self.values[member] - self.values[reference]
        if self.once:
            return interval(apart[0].tolist())
        y = self.varied()
        rest = y - y.mean(1, keepdims=True) - y.mean(0) + y.mean() if len(y) else y
        return _student(float(apart.mean()), rest, self.freedom(1), 2.0)

    def freedom(self, taken: int) -> int:
        """Return the degrees of freedom of members that vary, less those taken, times (P - 1)."""
        members, seeds = self.varied().shape
        return max(0, members - taken) * (seeds - 1)


def side(found: Interval) -> int:
    """Return on which side of 0 the whole interval is, 0 where it is on both or there is none."""
    if found.low is None or found.high is None:
        return 0
    return int(found.low > 0) - int(found.high < 0)


def at(run: dict[str, Any], tokens: float) -> float | None:
    """Return the held-out loss of single tokens at the first evaluation after so many tokens, None where none is."""
    name = run["token_losses"][0] if run["token_losses"] else ""
    later = (point[name] for point in run["curve"] if name in point and point["tokens"] >= 0.99 * tokens)
    return next(later, None)


def numbers(lines: Sequence[str]) -> NDArray[np.float64]:
    """Return numbers written as characters, a column a line."""
    return np.array([[ord(character) - FIRST for character in line] for line in lines], float).T


def _student(mean: float, residuals: NDArray[np.float64], freedom: int, factor: float) -> Interval:
    """Return mean ± t √(factor s² / P), s² the mean square of residuals (M', P) with these degrees of freedom."""
    seeds = residuals.shape[1]
    if freedom < 1:
        return Interval(mean, None, None, seeds)
    variance = float((residuals**2).sum()) / freedom
    half = t_quantile(CONFIDENCE, freedom) * math.sqrt(factor * variance / seeds)
    return Interval(mean, mean - half, mean + half, seeds)

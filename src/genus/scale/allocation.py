"""How compute is best shared out between size and data: Kaplan's frontier and Chinchilla's three approaches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import GenusError
from genus.scale.fit import INTERVAL, Fit
from genus.scale.points import SIX, Measured, Point

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BINS = 1500
"""Amounts of compute at which curves are compared (Hoffmann et al. 2022, section 3.1)."""
ALIKE = 0.1
"""Relative difference up to which runs count as of one budget."""


@dataclass(frozen=True)
class Allocation:
    """N = k C^a and D = l C^b for the least loss at C FLOPs."""

    a: float
    b: float
    k: float
    l: float  # noqa: E741  # as k, the factor of the other power
    a_interval: tuple[float, float] | None = None

    def at(self, flops: float) -> tuple[float, float]:
        """Return parameters and tokens."""
        return self.k * flops**self.a, self.l * flops**self.b


def frontier(runs: Sequence[Measured], bins: int = BINS) -> list[Point]:
    """Return, for amounts of compute between the least and the most, the point of least loss on any run's curve.

    Losses between two evaluations lie on a line over log C. The frontier of all runs is what Kaplan et al. (2020,
    figure 13) fit L(C) to, and the first approach of Hoffmann et al. (2022, section 3.1) N(C) and D(C).

    Raises:
        GenusError: no run has two evaluations.
    """
    curves = [(run, np.log([point.flops for point in run.curve])) for run in runs if len(run.curve) > 1]
    if not curves:
        raise GenusError("no run has two evaluations, between which its curve lies; evaluate more often")
    least, most = min(logs[0] for _, logs in curves), max(logs[-1] for _, logs in curves)
    found = []
    for c in np.linspace(least, most, bins):
        here = [
            (float(np.interp(c, logs, [point.loss for point in run.curve])), run, logs)
            for run, logs in curves
            if logs[0] <= c <= logs[-1]
        ]
        if here:
            loss, run, logs = min(here, key=lambda one: one[0])
            tokens = math.exp(float(np.interp(c, logs, np.log([point.tokens for point in run.curve]))))
            found.append(Point(run.last.parameters, tokens, math.exp(c), loss))
    return found


def from_frontier(runs: Sequence[Measured], bins: int = BINS) -> Allocation:
    """Return the powers of C by which size and data of the frontier grow (Hoffmann et al. 2022, approach 1)."""
    points = frontier(runs, bins)
    sizes = {point.parameters for point in points}
    if len(sizes) < 2:
        raise GenusError("runs of one size alone are best at every amount of compute; make runs of others")
    return _powers(points)


def from_budgets(runs: Sequence[Measured]) -> Allocation:
    """Return the powers of C that minima of parabolas follow (Hoffmann et al. 2022, section 3.2, approach 2).

    For each budget a parabola is fitted to the loss over log N, and one over log D; its minimum is the best size.

    Raises:
        GenusError: fewer than two budgets have three sizes, or a minimum between them.
    """
    points = [_lowest(group) for group in _budgets([run.last for run in runs]) if len(group) > 2]
    found = [point for point in points if point is not None]
    if len(found) < 2:
        raise GenusError("fewer than two budgets have three sizes with a minimum of the loss between them; "
                         "make runs of more sizes (genus scale ladder)")  # fmt: skip
    return _powers(found)


def from_law(fitted: Fit) -> Allocation:
    """Return the powers of C that follow from E + A / N^α + B / D^β with C = 6 N D (Hoffmann et al. 2022, equation 4).

    N = G (C / 6)^a and D = (C / 6)^b / G with G = (α A / (β B))^(1 / (α + β)), a = β / (α + β), b = α / (α + β).
    """
    values = fitted.constants
    alpha, beta = values["alpha"], values["beta"]
    g = (alpha * values["A"] / (beta * values["B"])) ** (1 / (alpha + beta))
    a = beta / (alpha + beta)
    each = [fitted.law.constants(theta, fitted.means) for theta in fitted.resampled]
    shares = [one["beta"] / (one["alpha"] + one["beta"]) for one in each]
    interval = tuple(float(x) for x in np.quantile(shares, INTERVAL)) if shares else None
    return Allocation(a, 1 - a, g / SIX**a, 1 / g / SIX ** (1 - a), interval)  # type: ignore[arg-type]


def _budgets(points: Sequence[Point]) -> list[list[Point]]:
    """Return points in groups of about the same compute."""
    groups: list[list[Point]] = []
    for point in sorted(points, key=lambda point: point.flops):
        if groups and point.flops <= groups[-1][0].flops * (1 + ALIKE):
            groups[-1].append(point)
        else:
            groups.append([point])
    return groups


def _lowest(group: Sequence[Point]) -> Point | None:
    """Return the minimum of the parabola through a budget's losses; None where it opens downwards or lies outside."""
    losses = np.array([point.loss for point in group])
    sizes, data = (np.log([getattr(point, name) for point in group]) for name in ("parameters", "tokens"))
    n, d = (_vertex(logs, losses) for logs in (sizes, data))
    if n is None or d is None:
        return None
    flops = math.exp(float(np.mean(np.log([point.flops for point in group]))))
    return Point(math.exp(n), math.exp(d), flops, float(losses.min()))


def _vertex(x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    """Return where the parabola through points is lowest; None where that is not between them."""
    middle = x.mean()
    square, slope, _ = np.polyfit(x - middle, y, 2)
    if square <= 0:
        return None
    place = float(middle - slope / (2 * square))
    return place if x.min() <= place <= x.max() else None


def _powers(points: Sequence[Point]) -> Allocation:
    """Return the powers by least squares of logarithms."""
    c, n, d = (np.log([getattr(point, name) for point in points]) for name in ("flops", "parameters", "tokens"))
    (a, k), (b, l) = np.polyfit(c, n, 1), np.polyfit(c, d, 1)  # noqa: E741
    return Allocation(float(a), float(b), math.exp(k), math.exp(l))

"""Laws are recovered from their own points, scipy finds none better, and published points give published constants."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.optimize import minimize as scipy_minimize
from scipy.special import logsumexp

from genus.errors import GenusError
from genus.scale.allocation import from_budgets, from_frontier, from_law, frontier
from genus.scale.fit import DELTA, Fit, fit
from genus.scale.laws import Chinchilla, Kaplan, PowerLaw, Saturating
from genus.scale.points import Measured, Point

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

EPOCH = Path(__file__).parent / "chinchilla_runs.txt"
"""Hoffmann et al.'s figure 4 as Besiroglu et al. 2024 read it: millions of parameters, 1e18 FLOPs, loss."""
SIZES, DATA = (1e6, 4e6, 2e7, 1e8, 1e9), (1e7, 1e8, 1e9, 1e10)


def runs(loss: Callable[[float, float], float], noise: float = 0.0) -> list[Point]:
    draw = np.random.default_rng(1)
    return [Point(n, d, 6 * n * d, loss(n, d) * math.exp(noise * draw.standard_normal())) for n in SIZES for d in DATA]


def chinchilla(n: Any, d: Any) -> Any:
    """Return the loss of Hoffmann et al. 2022, equation 10."""
    return 1.69 + 406.4 / n**0.34 + 410.7 / d**0.28


def kaplan(n: float, d: float) -> Any:
    """Return the loss of Kaplan et al. 2020, table 2."""
    return ((6.4e13 / n) ** (0.076 / 0.103) + 1.8e13 / d) ** 0.103


def test_chinchilla_is_recovered() -> None:
    found = exact_fit().constants
    assert found == pytest.approx({"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}, rel=1e-3)


def test_kaplan_is_recovered() -> None:
    found = fit(Kaplan(), runs(kaplan), resamples=0).constants
    assert found == pytest.approx({"alpha_N": 0.076, "alpha_D": 0.103, "N_c": 6.4e13, "D_c": 1.8e13}, rel=1e-3)


@pytest.mark.parametrize(
    ("of", "alpha", "constant"),
    [("parameters", 0.076, 8.8e13), ("tokens", 0.095, 5.4e13), ("flops", 0.05, 3.1e8 * 8.64e19)],
)
def test_the_laws_of_one_variable_are_recovered(of: str, alpha: float, constant: float) -> None:
    """Kaplan et al. 2020, equations 1.1 to 1.3; a petaflop/s-day is 8.64e19 FLOPs."""
    points = [Point(x, x, x, (constant / x) ** alpha) for x in np.geomspace(1e6, 1e12, 9)]
    law = PowerLaw.from_json({"kind": "PowerLaw", "of": of})
    assert list(fit(law, points, resamples=0).constants.values()) == pytest.approx([alpha, constant], rel=1e-3)


def test_a_loss_that_remains_is_recovered() -> None:
    points = [Point(x, 1.0, x, 1.5 + 200 / x**0.4) for x in np.geomspace(1e5, 1e9, 8)]
    found = fit(Saturating(), points, resamples=0).constants
    assert found == pytest.approx({"E": 1.5, "A": 200.0, "alpha": 0.4}, rel=1e-3)


def published() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return N, D and L without the five highest losses, as Besiroglu et al. fit them."""
    millions, flops, losses = np.loadtxt(EPOCH).T
    kept = losses < np.sort(losses)[-5]
    n, c = 1e6 * millions[kept], 1e18 * flops[kept]
    return n, c / (6 * n), losses[kept]


@functools.cache
def published_fit() -> Fit:
    n, d, losses = published()
    return fit(Chinchilla(), [Point(x, y, 0.0, loss) for x, y, loss in zip(n, d, losses, strict=True)], resamples=100)


@functools.cache
def exact_fit() -> Fit:
    return fit(Chinchilla(), runs(chinchilla), resamples=0)


def by_scipy(start: list[float]) -> tuple[NDArray[np.float64], float]:
    """Return log A, log B, log E, α, β and the loss of Hoffmann et al.'s procedure, written out."""
    n, d, losses = published()

    def objective(theta: NDArray[np.float64]) -> float:
        a, b, e, alpha, beta = theta
        terms = np.stack([a - alpha * np.log(n), b - beta * np.log(d), np.full_like(n, e)])
        apart = np.abs(logsumexp(terms, axis=0) - np.log(losses))
        return float(np.where(apart <= 1e-3, apart**2 / 2, 1e-3 * (apart - 5e-4)).sum())

    found = scipy_minimize(objective, start, method="Nelder-Mead",
                           options={"maxiter": 3_000, "maxfev": 3_000, "xatol": 1e-7, "fatol": 1e-12})  # fmt: skip
    return found.x, found.fun


def test_published_points_give_the_published_constants() -> None:
    """Besiroglu et al. 2024, table 1: E 1.8172 (0.03), A 482.01 (124.58), B 2085.43 (1293.23), α 0.3478 (0.02),
    β 0.3658 (0.02); with C = 6 N D sizes grow as C^0.513."""
    found = published_fit()
    values = found.constants
    assert values["E"] == pytest.approx(1.8172, abs=0.003)
    assert values["alpha"] == pytest.approx(0.3478, abs=0.003)
    assert values["beta"] == pytest.approx(0.3658, abs=0.003)
    assert values["A"] == pytest.approx(482.01, rel=0.06)
    assert values["B"] == pytest.approx(2085.43, rel=0.06)
    assert from_law(found).a == pytest.approx(0.513, abs=0.003)
    intervals = found.intervals()
    for name, error in (("E", 0.03), ("alpha", 0.02), ("beta", 0.02)):
        low, high = intervals[name]
        assert low < values[name] < high
        assert (high - low) / (2 * 1.96) == pytest.approx(error, rel=0.5)


def test_scipy_finds_no_better_constants() -> None:
    found = published_fit()
    values = found.constants
    start = [math.log(values["A"]), math.log(values["B"]), math.log(values["E"]), values["alpha"], values["beta"]]
    theta, least = by_scipy([*start[:2], *start[2:]])
    apart = np.abs(found.residuals)
    own = float(np.where(apart <= DELTA, apart**2 / 2, DELTA * (apart - DELTA / 2)).sum())
    assert own <= least * (1 + 1e-5)
    assert theta[3:] == pytest.approx(start[3:], abs=2e-3)


def test_intervals_hold_the_law_and_predictions_the_next_size() -> None:
    found = fit(Chinchilla(), runs(chinchilla, noise=0.01), resamples=100)
    for name, value in {"E": 1.69, "alpha": 0.34, "beta": 0.28}.items():
        low, high = found.intervals()[name]
        assert low < value < high
    low, high = found.predicted((1e10, 1e11))
    assert low < chinchilla(1e10, 1e11) < high
    assert high / low < 1.2


def curves() -> list[Measured]:
    """Return runs whose evaluations lie on the law at every amount of data."""
    data = np.geomspace(1e7, 1e11, 60)
    return [
        Measured(f"{n:g}", tuple(Point(n, d, 6 * n * d, chinchilla(n, d)) for d in data))
        for n in np.geomspace(1e6, 1e10, 30)
    ]


def exact() -> float:
    """Return a of Hoffmann et al. 2022, equation 4."""
    return 0.28 / (0.34 + 0.28)


def test_three_approaches_agree_on_the_law_that_made_the_runs() -> None:
    assert from_law(exact_fit()).a == pytest.approx(exact(), abs=1e-3)
    first = from_frontier(curves())
    assert first.a == pytest.approx(exact(), abs=0.03)
    assert first.b == pytest.approx(1 - exact(), abs=0.03)
    budgets = [
        Measured("", (Point(n, c / (6 * n), c, chinchilla(n, c / (6 * n))),))
        for c in (1e18, 1e19, 1e20, 1e21)
        for n in best_size(c) * np.array([0.5, 0.7, 1.0, 1.4, 2.0])
    ]
    second = from_budgets(budgets)
    assert second.a == pytest.approx(exact(), abs=0.02)
    size, tokens = second.at(1e20)
    assert size == pytest.approx(best_size(1e20), rel=0.1)
    assert 6 * size * tokens == pytest.approx(1e20, rel=0.05)


def best_size(c: float) -> float:
    """Return the size of least loss at C FLOPs, searched for."""
    sizes = np.geomspace(1e5, 1e12, 200_001)
    return float(sizes[np.argmin(chinchilla(sizes, c / (6 * sizes)))])


def test_the_law_allots_what_a_search_finds() -> None:
    allocation = from_law(exact_fit())
    for c in (1e18, 1e22):
        size, tokens = allocation.at(c)
        assert size == pytest.approx(best_size(c), rel=0.01)
        assert 6 * size * tokens == pytest.approx(c, rel=1e-6)


def test_the_frontier_is_below_every_curve() -> None:
    below = {round(math.log(point.flops), 6): point.loss for point in frontier(curves(), bins=50)}
    for run in curves():
        for c, loss in below.items():
            logs = [math.log(point.flops) for point in run.curve]
            if logs[0] <= c <= logs[-1]:
                assert loss <= np.interp(c, logs, [point.loss for point in run.curve]) + 1e-4


def test_too_few_or_equal_points_are_refused() -> None:
    with pytest.raises(GenusError, match="5 constants, for which 3 runs are too few"):
        fit(Chinchilla(), runs(chinchilla)[:3])
    same = [Point(1e6, d, 6e6 * d, chinchilla(1e6, d)) for d in np.geomspace(1e7, 1e9, 9)]
    with pytest.raises(GenusError, match="same parameters"):
        fit(Chinchilla(), same)
    with pytest.raises(GenusError, match="two evaluations"):
        frontier([Measured("a", (same[0],))])
    with pytest.raises(GenusError, match="fewer than two budgets"):
        from_budgets([Measured("a", (point,)) for point in same])

"""Intervals against SciPy."""

import numpy as np
import pytest

from genus.evaluate.interval import bootstrap, interval, paired_bootstrap, t_quantile, wilson
from genus.evaluate.metrics import Accuracy

stats = pytest.importorskip("scipy.stats")

EXACT = 1e-9
"""Both sides are float64; SciPy's own quantile is found by iteration."""


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 31, 100])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_quantile_equals_scipy(freedom: int, confidence: float) -> None:
    assert t_quantile(confidence, freedom) == pytest.approx(stats.t.ppf((1 + confidence) / 2, freedom), rel=EXACT)


def test_interval_equals_scipy() -> None:
    values = [0.81, 0.84, 0.79]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    found = interval(values)
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high), rel=EXACT)
    assert str(found) == f"0.8133 [{low:.4f}, {high:.4f}]"


def test_one_run_has_no_range() -> None:
    assert (interval([0.5]).low, str(interval([0.5]))) == (None, "0.5000")


def test_paired_bootstrap_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(2, size=400)
    ours, theirs = (np.where(rng.random(400) < right, truth, 1 - truth) for right in (0.9, 0.7))
    found = paired_bootstrap(Accuracy(), truth, ours, theirs)
    gains = ((ours == truth).astype(float) - (theirs == truth).astype(float),)
    expected = stats.bootstrap(gains, np.mean, method="percentile", rng=np.random.default_rng(2)).confidence_interval
    sampling_error = 0.01  # four times the quantiles' standard error with 2000 draws
    assert found.mean == pytest.approx(gains[0].mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=sampling_error)
    assert found.low is not None
    assert found.low > 0


def test_a_system_does_not_differ_from_itself() -> None:
    truth = np.arange(10) % 2
    same = paired_bootstrap(Accuracy(), truth, truth, truth, draws=50)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_bootstrap_agrees_with_scipy() -> None:
    values = np.random.default_rng(3).exponential(size=300)
    found = bootstrap(lambda chosen: float(np.exp(values[chosen].mean())), len(values))
    expected = stats.bootstrap(
        (values,), lambda x, axis: np.exp(x.mean(axis)), method="percentile", rng=np.random.default_rng(4)
    ).confidence_interval
    sampling_error = 0.03  # four times the quantiles' standard error with 2000 draws
    assert found.mean == pytest.approx(np.exp(values.mean()))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=sampling_error)
    assert found.runs == 300


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (5, 5), (1, 7), (50, 100), (3, 1000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_interval_of_a_share_equals_scipy(successes: int, trials: int, confidence: float) -> None:
    expected = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    found = wilson(successes, trials, confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert (found.mean, found.runs) == (successes / trials, trials)

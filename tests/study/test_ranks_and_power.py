"""Ranks, paired differences and power of comparisons, against scipy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from genus.study.correlation import agreement
from genus.study.ranks import detectable, paired, power_of, ranked

TIGHT = 1e-6
"""Of two numerical integrals of the same distribution."""
SIMULATION = 0.02
"""Three standard errors of a share of 0.8 in 4,000 draws."""


def scores(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


@pytest.mark.parametrize("pairs", [1, 3, 10])
def test_a_paired_difference_is_the_paired_t_interval(pairs: int) -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(1.0, 1.0, 6), rng.normal(0.0, 1.0, 6)
    found = paired(scores(*ours), scores(*theirs), pairs)
    assert found is not None
    for interval, confidence in ((found.over, 0.95), (found.joint, 1 - 0.05 / pairs)):
        wanted = stats.ttest_rel(ours, theirs).confidence_interval(confidence)
        assert (interval.low, interval.high) == pytest.approx((wanted.low, wanted.high))
    assert found.deviation == pytest.approx(np.std(ours - theirs, ddof=1))


def test_only_seeds_that_both_have_are_paired() -> None:
    found = paired({0: 1.0, 1: 2.0, 2: 9.0}, {1: 1.0, 2: 1.0, 5: 100.0})
    assert found is not None
    assert (found.over.mean, found.over.runs) == (4.5, 2)
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_rows_are_ranked_by_what_intervals_separate_and_by_nothing_else() -> None:
    rows = {
        "best": scores(9.0, 9.2, 9.1, 8.9),
        "good": scores(5.0, 5.3, 5.1, 4.8),
        "as good": scores(5.2, 4.9, 5.0, 5.1),
        "bad": scores(1.0, 1.1, 0.9, 1.0),
    }
    assert ranked(rows) == {"best": 1, "good": 2, "as good": 2, "bad": 4}
    assert ranked(rows, larger_is_better=False) == {"best": 4, "good": 2, "as good": 2, "bad": 1}


def test_one_seed_ranks_nothing_and_luck_of_few_values_neither() -> None:
    assert ranked({"a": scores(0.9), "b": scores(0.1)}) == {"a": 1, "b": 1}
    assert ranked({"a": scores(0.75, 0.5), "b": scores(0.5, 0.25)}) == {"a": 1, "b": 1}, "both differences are 0.25"


def test_noise_alone_is_ranked_in_one_of_twenty_comparisons_at_most() -> None:
    """Four rows of one distribution: any of six pairs that is set apart is an error."""
    rng, errors, trials = np.random.default_rng(1), 0, 400
    for _ in range(trials):
        rows = {str(row): scores(*rng.normal(size=4)) for row in range(4)}
        errors += len({*ranked(rows).values()}) > 1
    assert errors / trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


@pytest.mark.parametrize("freedom", [1, 2, 4, 19])
@pytest.mark.parametrize("ncp", [0.0, 0.7, 3.0, 12.0])
@pytest.mark.parametrize("confidence", [0.95, 0.995])
def test_power_is_that_of_the_noncentral_t_distribution(ncp: float, freedom: int, confidence: float) -> None:
    t = stats.t.ppf(1 - (1 - confidence) / 2, freedom)
    below = stats.nct.cdf(-t, freedom, ncp) if ncp < 10 else 0.0  # under 1e-20, where scipy gives NaN
    wanted = stats.nct.sf(t, freedom, ncp) + below
    assert power_of(ncp, freedom, confidence) == pytest.approx(wanted, abs=TIGHT)


@pytest.mark.parametrize(("seeds", "pairs"), [(2, 1), (3, 1), (3, 6), (5, 45)])
def test_the_detectable_difference_has_the_power_that_it_is_told_with(seeds: int, pairs: int) -> None:
    deviations = [0.2, 0.4]
    found = detectable(deviations, seeds, pairs)
    assert found is not None
    spread, level = math.sqrt((0.04 + 0.16) / 2), 1 - 0.05 / pairs
    t = stats.t.ppf(1 - (1 - level) / 2, seeds - 1)
    ncp = found / spread * math.sqrt(seeds)
    assert stats.nct.sf(t, seeds - 1, ncp) == pytest.approx(0.8, abs=1e-4)


def test_the_detectable_difference_is_shown_in_that_share_of_simulated_comparisons() -> None:
    seeds, spread = 4, 0.3
    true = detectable([spread], seeds)
    assert true is not None
    rng = np.random.default_rng(0)
    apart = rng.normal(true, spread, (4000, seeds))
    shown = stats.ttest_1samp(apart, 0.0, axis=1).pvalue < 0.05
    assert shown.mean() == pytest.approx(0.8, abs=SIMULATION)


def test_nothing_is_detectable_with_one_seed_or_without_spread() -> None:
    assert detectable([0.1], 1) is None
    assert detectable([0.0, 0.0], 3) is None
    assert detectable([], 3) is None


def test_the_rank_correlation_is_scipys_and_its_sign_is_the_papers_order() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.normal(size=12)
    ours = theirs + rng.normal(size=12)
    found = agreement(ours, theirs, "score", "ours", same_direction=True)
    turned = agreement(-ours, theirs, "score", "loss", same_direction=False)
    assert found is not None
    assert turned is not None
    assert found.rho.mean == turned.rho.mean == pytest.approx(stats.spearmanr(ours, theirs).statistic)
    assert found.rho.low is not None
    assert found.rho.high is not None
    assert -1 <= found.rho.low < found.rho.mean < found.rho.high <= 1
    assert agreement(ours[:3], theirs[:3], "score", "ours", same_direction=True) is None
    assert agreement(np.ones(5), theirs[:5], "score", "ours", same_direction=True) is None

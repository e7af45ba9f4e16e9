"""Multi-label metrics against scikit-learn, and thresholds against all that there are."""

from __future__ import annotations

import itertools
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from genus.evaluate.label_metrics import (
    HammingLoss,
    LabelMacroF1,
    LabelMicroF1,
    LabelRankingAveragePrecision,
    MacroAuroc,
    SampleF1,
    SubsetAccuracy,
)
from genus.evaluate.thresholds import one_threshold, threshold_of_each

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.evaluate.label_metrics import LabelMetric
    from genus.evaluate.metrics import Metric

sklearn = pytest.importorskip("sklearn.metrics")

EXACT = 1e-12
"""Both sides compute ratios of small integers in float64."""
F1S = {"micro": LabelMicroF1(), "macro": LabelMacroF1(), "samples": SampleF1()}


@st.composite
def tables(draw: st.DrawFn) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Truth and scores of a few texts and labels; scores of few values, so that many are equal."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(2, 6)))  # of one label sklearn takes them for classes
    truth = draw(arrays(np.bool_, shape, elements=st.booleans(), fill=st.nothing()))
    for column in draw(st.sets(st.integers(0, shape[1] - 1))):
        truth[:, column] = draw(st.booleans())  # a label that never occurs, or always
    scores = draw(arrays(np.float64, shape, elements=st.integers(-4, 4).map(lambda x: x / 4), fill=st.nothing()))
    return truth, scores


def quiet(function: Any, *arguments: Any, **options: Any) -> Any:
    """Call an oracle that warns of undefined cases."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, **options)


def check(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> None:
    """Compare every metric with scikit-learn's."""
    told = scores > 0
    for average, metric in F1S.items():
        wanted = quiet(sklearn.f1_score, truth, told, average=average)
        assert metric(truth, told) == pytest.approx(wanted, abs=EXACT)
    assert SubsetAccuracy()(truth, told) == pytest.approx(sklearn.accuracy_score(truth, told), abs=EXACT)
    assert HammingLoss()(truth, told) == pytest.approx(sklearn.hamming_loss(truth, told), abs=EXACT)
    ranked = sklearn.label_ranking_average_precision_score(truth, scores)
    assert LabelRankingAveragePrecision()(truth, scores) == pytest.approx(ranked, abs=EXACT)
    areas = [
        sklearn.roc_auc_score(truth[:, label], scores[:, label])
        for label in range(truth.shape[1])
        if truth[:, label].any() and not truth[:, label].all()
    ]
    assert MacroAuroc().defined(truth) == bool(areas)
    assert MacroAuroc()(truth, scores) == pytest.approx(np.mean(areas) if areas else 0.0, abs=EXACT)
    if len(areas) == truth.shape[1]:
        assert MacroAuroc()(truth, scores) == pytest.approx(sklearn.roc_auc_score(truth, scores), abs=EXACT)


@given(tables())
def test_metrics_equal_sklearn(table: tuple[NDArray[np.bool_], NDArray[np.float64]]) -> None:
    check(*table)


@pytest.mark.parametrize("seed", range(5))
def test_metrics_of_many_texts_equal_sklearn(seed: int) -> None:
    """Labels as they occur: some often, some rarely, one nowhere, one everywhere, texts without any."""
    rng = np.random.default_rng(seed)
    truth = rng.random((400, 30)) < rng.random(30) ** 3
    truth[:, 3], truth[:, 4], truth[::7, :] = False, True, False
    truth[1::9, 4] = True
    check(truth, (rng.normal(size=truth.shape) + truth).round(seed))


NONE, ALL, SOME = np.zeros((3, 2), bool), np.ones((3, 2), bool), np.array([[1, 0], [0, 0], [1, 0]], bool)
DEFINED = [
    (LabelMicroF1(), False, True, True),
    (LabelMacroF1(), False, True, True),
    (SampleF1(), False, True, True),
    (SubsetAccuracy(), True, True, True),
    (HammingLoss(), True, True, True),
    (LabelRankingAveragePrecision(), False, False, True),
    (MacroAuroc(), False, False, True),
]


@pytest.mark.parametrize(("metric", "none", "every", "some"), DEFINED)
def test_whether_a_label_metric_is_defined(metric: Metric, none: bool, every: bool, some: bool) -> None:
    assert [metric.defined(truth) for truth in (NONE, ALL, SOME, NONE[:0])] == [none, every, some, False]


def test_what_a_mean_leaves_out_or_counts_as_nothing_is_said() -> None:
    assert LabelMacroF1().signature(SOME) == "1 of 2 labels are of no text, and count as 0 (zero_division=0)"
    assert SampleF1().signature(SOME).startswith("1 of 3 texts have no label, and count as 0")
    assert MacroAuroc().signature(SOME) == "over 1 of 2 labels; all or none of the texts have others"
    assert [metric.signature(SOME[[0, 1]][:, :1]) for metric in (LabelMacroF1(), MacroAuroc())] == ["", ""]
    assert [metric.signature(ALL) for metric in (LabelMacroF1(), SampleF1())] == ["", ""]


DECISIONS = [*F1S.values(), SubsetAccuracy(), HammingLoss()]


def drawn(seed: int, texts: int, labels: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return truth, of which the last label is of no text, and probabilities that tell something of it."""
    rng = np.random.default_rng(seed)
    truth = rng.random((texts, labels)) < 0.4
    truth[:, -1] = False
    return truth, (0.6 * rng.random(truth.shape) + 0.3 * truth).round(2)


def every_threshold(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a threshold for every way in which one can cut."""
    return np.append(-1.0, np.unique(chances))


@pytest.mark.parametrize("metric", DECISIONS)
@pytest.mark.parametrize("seed", range(4))
def test_one_threshold_is_the_best_there_is(metric: LabelMetric, seed: int) -> None:
    truth, chances = drawn(seed, 30, 4)
    best = max(metric.rank(metric(truth, chances > one)) for one in every_threshold(chances))
    found = one_threshold(truth, chances, metric)
    assert metric.rank(metric(truth, chances > found)) == best
    assert 0 <= found < 1


@pytest.mark.parametrize("metric", [LabelMacroF1(), HammingLoss()])
def test_thresholds_of_means_over_labels_are_the_best_there_are(metric: LabelMetric) -> None:
    truth, chances = drawn(5, 12, 3)
    found = threshold_of_each(truth, chances, metric)
    ways = [every_threshold(chances[:, label]) for label in range(2)]
    best = max(metric.rank(metric(truth, chances > np.array([*one, found[2]]))) for one in itertools.product(*ways))
    assert metric.rank(metric(truth, chances > found)) == pytest.approx(best, abs=EXACT)


@pytest.mark.parametrize("metric", DECISIONS)
@pytest.mark.parametrize("seed", range(4))
def test_no_label_alone_could_have_a_better_threshold(metric: LabelMetric, seed: int) -> None:
    truth, chances = drawn(seed, 60, 5)
    found = threshold_of_each(truth, chances, metric)
    common = one_threshold(truth, chances, metric)
    value = metric.rank(metric(truth, chances > found))
    assert value >= metric.rank(metric(truth, chances > common))
    assert found[-1] == common
    for label in range(4):
        for one in every_threshold(chances[:, label]):
            other = found.copy()
            other[label] = one
            assert metric.rank(metric(truth, chances > other)) <= value + EXACT

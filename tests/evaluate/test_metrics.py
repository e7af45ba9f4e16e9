"""Metrics against scikit-learn and SciPy."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genus.evaluate.metrics import F1, Accuracy, MacroF1, Matthews, Metric, Pearson, Spearman
from genus.part import slots_of

sklearn = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats")

EXACT = 1e-12
"""Both sides compute ratios of small integers in float64."""
ROUNDING = 1e-6
"""Correlations of float64 numbers whose spread may be a millionth of their size."""


def pairs(values, least):
    """Two lists of equal length, the truth and predictions."""
    same_length = st.integers(least, 40).map(lambda n: st.lists(values, min_size=n, max_size=n))
    return same_length.flatmap(lambda lists: st.tuples(lists, lists))


classes = pairs(st.integers(0, 3), 1)
numbers = pairs(st.integers(-1000, 1000).map(lambda x: x / 8), 2)


def quiet(function, *arguments, **options):
    """Call an oracle that warns of undefined cases."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, **options)


@given(classes)
def test_classification_metrics_equal_sklearn(pair: tuple[list[int], list[int]]) -> None:
    truth, predicted = (np.array(side) for side in pair)
    assert Accuracy()(truth, predicted) == pytest.approx(sklearn.accuracy_score(truth, predicted), abs=EXACT)
    macro = quiet(sklearn.f1_score, truth, predicted, average="macro")
    assert MacroF1()(truth, predicted) == pytest.approx(macro, abs=EXACT)
    assert Matthews()(truth, predicted) == pytest.approx(quiet(sklearn.matthews_corrcoef, truth, predicted), abs=EXACT)


@given(classes)
def test_binary_f1_equals_sklearn(pair: tuple[list[int], list[int]]) -> None:
    truth, predicted = (np.array(side) % 2 for side in pair)
    for positive in (0, 1):
        expected = sklearn.f1_score(truth, predicted, labels=[positive], average="macro", zero_division=0)
        assert F1(positive=positive)(truth, predicted) == pytest.approx(expected, abs=EXACT)


@given(numbers)
def test_correlations_equal_scipy(pair: tuple[list[float], list[float]]) -> None:
    truth, predicted = (np.array(side) for side in pair)
    expected = [quiet(stats.pearsonr, truth, predicted)[0], quiet(stats.spearmanr, truth, predicted)[0]]
    ours = [Pearson()(truth, predicted), Spearman()(truth, predicted)]
    assert ours == pytest.approx(np.nan_to_num(expected).tolist(), abs=ROUNDING)


def test_correlation_of_what_does_not_vary_is_zero() -> None:
    assert Pearson()(np.array([1.0, 2.0]), np.array([3.0, 3.0])) == 0.0
    assert Matthews()(np.array([0, 1, 1]), np.array([1, 1, 1])) == 0.0


def test_metrics_are_a_slot() -> None:
    assert {"Accuracy", "F1", "MacroF1", "Matthews", "Pearson", "Spearman"} <= slots_of(Metric).keys()
    assert Metric.from_json({"kind": "F1", "positive": 0}) == F1(positive=0)
    assert MacroF1().name == "macro_f1"

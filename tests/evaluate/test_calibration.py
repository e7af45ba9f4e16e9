"""Calibration errors against their definitions written out and scikit-learn; temperatures against scipy."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.metrics import brier_score_loss, log_loss

from genus.errors import GenusError
from genus.evaluate.calibration import (
    Bin,
    brier_score,
    equal_mass,
    equal_width,
    expected_calibration_error,
    fit_temperature,
    log_probabilities,
    negative_log_likelihood,
)


def drawn(seed: int, decisions: int, classes: int, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits, and classes that are drawn from softmax(logits / 1.7)."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.standard_normal((decisions, classes))
    chances = np.exp(log_probabilities(logits / 1.7))
    return logits, np.array([rng.choice(classes, p=row) for row in chances])


def slow_ece(confidences: list[float], right: list[bool], bins: int) -> float:
    """Guo et al. 2017, equations 1 to 3: bin m is the interval ((m - 1) / M, m / M]."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = [i for i, p in enumerate(confidences) if (m - 1) / bins < p <= m / bins or (m == 1 and p == 0)]
        if inside:
            accuracy = sum(right[i] for i in inside) / len(inside)
            confidence = sum(confidences[i] for i in inside) / len(inside)
            total += len(inside) / len(confidences) * abs(accuracy - confidence)
    return total


EDGES = st.sampled_from([0.0, 1.0, 0.5, 0.2, 1 / 3, 1 / 15, 2 / 15, 14 / 15, 1e-300])


@given(st.lists(st.tuples(st.one_of(st.floats(0, 1), EDGES), st.booleans()), min_size=1), st.integers(1, 20))
def test_ece_is_as_it_is_defined(pairs: list[tuple[float, bool]], bins: int) -> None:
    confidences, right = map(list, zip(*pairs, strict=True))
    edges = [m / bins for m in range(bins + 1)]
    found = equal_width(np.array(confidences), np.array(right), bins)
    assert sum(one.count for one in found) == len(pairs)
    assert all(one.low - 1e-12 <= one.confidence <= one.high + 1e-12 for one in found)
    if not any(0 < abs(p - edge) < 1e-15 for p in confidences for edge in edges):  # else rounding decides on the bin
        assert expected_calibration_error(found) == pytest.approx(slow_ece(confidences, right, bins), abs=1e-12)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0]), st.booleans()), min_size=1), st.randoms())
def test_bins_of_equal_mass_do_not_depend_on_the_order(pairs: list[tuple[float, bool]], random: object) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (
        equal_mass(np.array([p for p, _ in side]), np.array([r for _, r in side])) for side in (pairs, shuffled)
    )
    assert [(bin.low, bin.high, bin.count, bin.accuracy) for bin in one] == [
        (bin.low, bin.high, bin.count, bin.accuracy) for bin in other
    ]
    assert sum(bin.count for bin in one) == len(pairs)
    assert all(before.high < after.low for before, after in pairwise(one))


def test_bins_of_equal_mass_hold_as_many() -> None:
    confidence = np.random.default_rng(0).random(150)
    found = equal_mass(confidence, confidence > 0.5)
    assert [one.count for one in found] == [10] * 15
    parts = np.split(np.sort(confidence), 15)
    assert [one.confidence for one in found] == pytest.approx([part.mean() for part in parts])
    slow = sum(abs((part > 0.5).mean() - part.mean()) / 15 for part in parts)
    assert expected_calibration_error(found) == pytest.approx(slow)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_likelihood_and_brier_score_are_those_of_scikit_learn(classes: int) -> None:
    logits, truth = drawn(1, 300, classes)
    chances = np.exp(log_probabilities(logits))
    assert negative_log_likelihood(logits, truth) == pytest.approx(log_loss(truth, chances, labels=range(classes)))
    expected = brier_score_loss(truth, chances, labels=range(classes)) if classes > 2 else None
    two = brier_score_loss(truth, chances[:, 1]) if classes == 2 else None
    assert brier_score(logits, truth) == pytest.approx(expected or two)


def test_logits_far_apart_stay_finite() -> None:
    logits, truth = np.array([[1e4, 0.0], [0.0, 1e4]]), np.array([1, 1])
    assert negative_log_likelihood(logits, truth) == 5000
    assert brier_score(logits, truth) == 0.5


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 6), st.floats(0.05, 20))
def test_the_temperature_is_scipys(seed: int, classes: int, scale: float) -> None:
    logits, truth = drawn(seed, 200, classes)
    logits = scale * logits

    def loss(log_t: float) -> float:
        return negative_log_likelihood(logits / math.exp(log_t), truth)

    found = fit_temperature(logits, truth)
    known = minimize_scalar(loss, bounds=(-8, 8), method="bounded", options={"xatol": 1e-10})
    assert loss(math.log(found)) <= known.fun + 1e-12
    assert math.log(found) == pytest.approx(known.x, abs=1e-4)


def test_fitting_again_finds_one() -> None:
    logits, truth = drawn(3, 500, 4)
    assert fit_temperature(logits / fit_temperature(logits, truth), truth) == pytest.approx(1, abs=1e-9)


def test_classes_that_a_decision_lacks_change_nothing() -> None:
    logits, truth = drawn(5, 200, 3)
    wider = np.concatenate([logits, np.full((200, 2), -np.inf)], axis=1)
    assert fit_temperature(wider, truth) == pytest.approx(fit_temperature(logits, truth))
    assert negative_log_likelihood(wider, truth) == pytest.approx(negative_log_likelihood(logits, truth))


RIGHT = np.array([[2.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("logits", "truth", "why"),
    [
        (RIGHT, [0, 1], "every answer is right"),
        (RIGHT, [1, 0], "say nothing of the labels"),
        (RIGHT[:1], [0], "every answer is right"),
        (np.zeros((4, 3)), [0, 1, 2, 0], "equally probable"),
    ],
)
def test_where_no_temperature_is_best(logits: np.ndarray, truth: list[int], why: str) -> None:
    with pytest.raises(GenusError, match=why):
        fit_temperature(logits, np.array(truth))


def test_one_class_in_truth_has_a_temperature() -> None:
    logits, truth = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]]), np.zeros(3, np.int64)
    found = fit_temperature(logits, truth)  # two of three are right: their probability becomes 2/3, e^(2/T) = 2
    assert found == pytest.approx(2 / math.log(2))


def test_an_empty_bin_is_none() -> None:
    assert equal_width(np.array([1.0]), np.array([True])) == [Bin(14 / 15, 1.0, 1, 1.0, 1.0)]

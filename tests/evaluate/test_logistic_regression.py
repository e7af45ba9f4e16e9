"""Logistic regression beside scikit-learn's, and the search for its penalty beside all penalties of its grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genus.evaluate.logistic_regression import best_penalty, fitted


@pytest.mark.parametrize("penalty", [1e-3, 1.0, 1e3])
def test_it_is_that_of_scikit_learn(penalty: float) -> None:
    sklearn = pytest.importorskip("sklearn.linear_model")
    draw = np.random.default_rng(0)
    x, noise = draw.normal(size=(200, 8)), draw.normal(size=(200, 3))
    truth = (x @ draw.normal(size=(8, 3)) + noise).argmax(1)
    weight, bias = fitted(torch.from_numpy(x), torch.from_numpy(truth), 3, penalty, updates=1_000)
    theirs = sklearn.LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=2_000).fit(x, truth)
    ours = (torch.from_numpy(x) @ weight.T + bias).softmax(1).numpy()
    assert np.abs(ours - theirs.predict_proba(x)).max() < 1e-3


@pytest.mark.parametrize("peak", [-6.0, -3.375, 0.0, 1.25, 5.875, 6.0])
def test_the_search_finds_the_peak_of_the_grid_in_15_scores(peak: float) -> None:
    """Of a score with one peak; the grid has eight penalties a decade."""
    asked: list[float] = []

    def score(penalty: float) -> float:
        asked.append(penalty)
        return -abs(np.log10(penalty) - peak)

    best, scores = best_penalty(score)
    assert np.log10(best) == pytest.approx(peak)
    assert scores.keys() == {*asked}
    assert len(asked) == len({*asked}) <= 15
    assert {1e-6, 1e-4, 1e-2, 1.0, 1e2, 1e4, 1e6} <= {*asked}


def test_of_equal_scores_the_strongest_penalty_is_taken() -> None:
    assert best_penalty(lambda _: 0.5)[0] == 1e6

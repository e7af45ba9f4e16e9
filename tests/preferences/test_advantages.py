"""Rewards per token, advantages and whitening against the equations written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genus.preferences.advantages import generalized_advantages, scaled, token_rewards, whitened

NUMBER = st.floats(-5, 5, allow_nan=False, width=32)
SEQUENCES = st.lists(st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=9), min_size=1, max_size=4)
SHARE = st.floats(0, 1, allow_nan=False)


@given(SEQUENCES, SHARE, SHARE)
def test_generalized_advantages(sequences: list[list[tuple[float, float]]], discount: float, trace: float) -> None:
    """A_t = sum over l of (discount trace)^l delta_{t+l} (Schulman et al. 2015, equation 16), for each sequence."""
    wanted = []
    for one in sequences:
        values = [value for _, value in one] + [0.0]
        deltas = [reward + discount * values[t + 1] - values[t] for t, (reward, _) in enumerate(one)]
        for t in range(len(one)):
            wanted.append(sum((discount * trace) ** k * delta for k, delta in enumerate(deltas[t:])))
    rewards, told = (np.array([pair[side] for one in sequences for pair in one]) for side in (0, 1))
    found = generalized_advantages(rewards, told, [len(one) for one in sequences], discount, trace)
    assert found == pytest.approx(wanted, abs=1e-6)


@given(SEQUENCES, st.floats(0, 2), st.data())
def test_token_rewards(sequences: list[list[tuple[float, float]]], beta: float, data: st.DataObject) -> None:
    """Their sum over a response is R(x, y) = r(x, y) - beta log(pi(y | x) / rho(y | x)) (Ziegler et al. 2019, 2)."""
    scores = [data.draw(NUMBER) for _ in sequences]
    logs, known = (np.array([pair[side] for one in sequences for pair in one]) for side in (0, 1))
    lengths = [len(one) for one in sequences]
    found = token_rewards(np.array(scores), logs, known, beta, lengths)
    at = 0
    for one, score in zip(sequences, scores, strict=True):
        own = found[at : at + len(one)]
        assert own.sum() == pytest.approx(score - beta * sum(a - b for a, b in one), abs=1e-5)
        assert own[:-1] == pytest.approx([-beta * (a - b) for a, b in one[:-1]], abs=1e-6)
        at += len(one)


def test_whitened_and_scaled() -> None:
    values = np.array([1.0, 4.0, -2.0, 9.0])
    deviation = np.sqrt(((values - values.mean()) ** 2).mean())
    assert whitened(values) == pytest.approx((values - values.mean()) / deviation)
    assert scaled(values) == pytest.approx(values / deviation)
    assert np.isfinite(scaled(np.ones(3))).all()

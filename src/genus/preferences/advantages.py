"""Rewards per token, generalized advantage estimation, and whitening.

Legend: M tokens of all responses, one after another.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

LEAST = 1e-8
"""Added to variances (Ziegler et al. 2019, released code, utils/core.py: whiten)."""


def token_rewards(
    scores: Numbers, logs_M: Numbers, reference_M: Numbers, beta: float, lengths: Sequence[int]
) -> Numbers:
    """Return the rewards (M,): -beta (log pi - log rho) of each token, and each response's score at its last one.

    Source: Ziegler et al. 2019, equation 2; released code, train_policy.py: compute_rewards.
    """
    found = -beta * (logs_M - reference_M)
    found[np.cumsum(lengths) - 1] += scores
    return found


def generalized_advantages(
    rewards_M: Numbers, values_M: Numbers, lengths: Sequence[int], discount: float, trace: float
) -> Numbers:
    """Return the advantages (M,): A_t = d_t + discount trace A_{t+1} with d_t = r_t + discount v_{t+1} - v_t.

    After the last token of a response, v and A are 0.

    Source: Schulman et al. 2015, equations 11 to 16.
    """
    found = np.zeros_like(rewards_M)
    for start, end in pairwise(np.cumsum([0, *lengths]).tolist()):
        following = value = 0.0
        for place in reversed(range(start, end)):
            delta = rewards_M[place] + discount * value - values_M[place]
            following, value = delta + discount * trace * following, values_M[place]
            found[place] = following
    return found


def whitened(values_M: Numbers, *, shifted: bool) -> Numbers:
    """Return numbers divided by their standard deviation, and with mean 0 where they are `shifted`; else their own."""
    mean = values_M.mean()
    found: Numbers = (values_M - mean) / np.sqrt(values_M.var() + LEAST)
    return found if shifted else found + mean

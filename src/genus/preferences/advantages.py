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


def scaled(values_M: Numbers) -> Numbers:
    """Return numbers divided by their standard deviation, which changes no preference among policies.

    Deviation: the released code adds back the mean, which it does not divide (utils/core.py: whiten without
    `shift_mean`). In responses of one length that is the same for all; where responses may end, a constant reward per
    token would be a reason to end early, or late.
    """
    found: Numbers = values_M / np.sqrt(values_M.var() + LEAST)
    return found


def whitened(values_M: Numbers) -> Numbers:
    """Return numbers with mean 0 and variance 1."""
    return scaled(values_M - values_M.mean())

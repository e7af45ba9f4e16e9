"""Calibration: how far probabilities are from how often they are right, and the temperature that mends it.

Legend: U decisions, C classes. A logit of -inf stands for a class that a decision does not have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import GenusError
from genus.evaluate.groups import equal_count

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

BINS = 15
"""Bins of the expected calibration error (Guo et al. 2017, table 1)."""
LARGEST = 2.0**20
"""Largest factor of the logits, and of the temperature, at which a minimum is sought."""


@dataclass(frozen=True, slots=True)
class Bin:
    """The decisions whose confidence is in an interval."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean of their confidences."""
    accuracy: float
    """How many of them are right, as a fraction."""


def equal_width(confidence_U: NDArray[np.float64], right_U: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """Return the bins ((m - 1) / M, m / M] that hold a decision (Guo et al. 2017, section 2); the first one holds 0."""
    edges = np.linspace(0, 1, bins + 1)
    number_U = np.searchsorted(edges[1:-1], confidence_U)
    several = [(number, np.flatnonzero(number_U == number)) for number in range(bins)]
    return [
        _bin(float(edges[number]), float(edges[number + 1]), confidence_U[inside], right_U[inside])
        for number, inside in several
        if len(inside)
    ]


def equal_mass(confidence_U: NDArray[np.float64], right_U: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """Return bins with as many decisions each as equal confidences allow (Nguyen and O'Connor 2015, section 3)."""
    several = [(confidence_U[inside], right_U[inside]) for inside in equal_count(confidence_U, bins)]
    return [_bin(float(one.min()), float(one.max()), one, right) for one, right in several]


def _bin(low: float, high: float, confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Bin:
    return Bin(low, high, len(right), float(confidence.mean()), float(right.mean()))


def expected_calibration_error(bins: Iterable[Bin]) -> float:
    """Return the ECE: Σ_b |b| / U |accuracy(b) - confidence(b)| (Guo et al. 2017, equation 3)."""
    bins = list(bins)
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.accuracy - one.confidence) for one in bins) / total


def log_probabilities(logits_UC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log softmax(logits) (U, C), finite where the logits are."""
    shifted = logits_UC - logits_UC.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def negative_log_likelihood(logits_UC: NDArray[np.float64], truth_U: NDArray[np.int64]) -> float:
    """Return the mean of -log softmax(logits)[truth], in nats (Guo et al. 2017, equation 6, a mean here)."""
    return float(-log_probabilities(logits_UC)[np.arange(len(truth_U)), truth_U].mean())


def brier_score(logits_UC: NDArray[np.float64], truth_U: NDArray[np.int64]) -> float:
    """Return the mean of Σ_c (p_c - [c is true])² over decisions, halved for two classes as scikit-learn has it.

    Of two classes that is the squared error of the probability of one (Brier 1950, and scikit-learn's
    `brier_score_loss`).
    """
    error_UC = np.exp(log_probabilities(logits_UC))
    error_UC[np.arange(len(truth_U)), truth_U] -= 1
    return float(np.square(error_UC).sum(-1).mean()) / (2 if logits_UC.shape[1] == 2 else 1)


def fit_temperature(logits_UC: NDArray[np.float64], truth_U: NDArray[np.int64]) -> float:
    """Return the temperature T > 0 with the least negative log-likelihood of softmax(logits / T).

    In b = 1 / T the likelihood is convex, and its derivative, the mean of Σ_c p_c z_c - z_truth, ascends with b; the
    root is found by bisection.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks (arXiv:1706.04599), section 4.2.

    Raises:
        GenusError: no temperature is best: all decisions are right, or the logits say nothing of the truth.
    """
    shifted = logits_UC - logits_UC.max(-1, keepdims=True)
    known = np.where(np.isfinite(shifted), shifted, 0.0)
    true_U = known[np.arange(len(truth_U)), truth_U]

    def slope(factor: float) -> float:
        raised = np.exp(shifted * factor)
        return float(((raised * known).sum(-1) / raised.sum(-1) - true_U).mean())

    if slope(LARGEST) <= 0:
        raise GenusError("no temperature is best, as every answer is right (or all are equally probable): the smaller "
                         "it is, the better; take rows of which some are answered wrongly")  # fmt: skip
    if slope(1 / LARGEST) >= 0:
        raise GenusError("no temperature is best, as the probabilities say nothing of the labels: the larger it is, "
                         "the better; look at the labels, or train longer")  # fmt: skip
    low, high = -math.log(LARGEST), math.log(LARGEST)
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if slope(math.exp(middle)) < 0 else (low, middle)
    return math.exp(-high)

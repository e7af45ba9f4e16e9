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
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

BINS = 15
"""Bins of the expected calibration error (Guo et al. 2017, table 1)."""
FEW, SEVERAL = 9, 193
"""Temperatures that are tried at first, where a loss has one minimum, and where it may have several."""
GOLDEN, ACCURACY = (math.sqrt(5) - 1) / 2, 1e-7
"""By which an interval shrinks, and of a logarithm of a temperature: below it a loss is equal but for rounding."""
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


def temperature_of_answers(scores_UC: NDArray[np.float64], told_U: NDArray[np.int64], right_U: NDArray[np.bool_]
                           ) -> float:  # fmt: skip
    """Return the temperature T > 0 with which confidences tell best whether answers are right.

    The confidence in what is told is p = softmax(scores / T)[told]; T has the least mean of -log p where that is right,
    of -log(1 - p) where it is not. So it also learns of answers of which no candidate is right.

    Source: Jagannatha and Yu 2020, Calibrating Structured Output Predictors (arXiv:2004.04361), section 1: of the many
    outputs, the event is calibrated that what is told is right; temperatures of Guo et al. 2017.

    Args:
        scores_UC: of candidates; -inf stands for one that a decision does not have.
        told_U: which is told.
        right_U: whether that is right.

    Raises:
        GenusError: no temperature is best: all answers are right, or all are wrong, or they are told at random.
    """
    rest_UC = scores_UC - scores_UC[np.arange(len(told_U)), told_U][:, None]
    rest_UC[np.arange(len(told_U)), told_U] = -np.inf

    def loss(log_factor: float) -> float:
        rest_U = np.logaddexp.reduce(rest_UC * math.exp(log_factor), axis=-1)  # log((1 - p) / p)
        return float(np.where(right_U, np.logaddexp(0, rest_U), np.logaddexp(0, -rest_U)).mean())

    return best_temperature(loss, SEVERAL)


def best_temperature(loss: Callable[[float], float], tried: int = FEW) -> float:
    """Return the temperature T with the least loss, which is given as a function of log(1 / T).

    Of so many temperatures from 2⁻²⁰ to 2²⁰, equally far apart in logarithms, the best is refined by golden sections.

    Args:
        loss: a mean or a sum over decisions.
        tried: few where the loss has one minimum, more where it may have several.

    Raises:
        GenusError: none is better than those at both ends.
    """
    end = math.log(LARGEST)
    steps = np.linspace(-end, end, tried).tolist()
    losses = [loss(step) for step in steps]
    best = int(np.argmin(losses))
    if losses[best] > min(losses[0], losses[-1]) - ACCURACY:
        raise GenusError("no temperature is best, as answers are all right, or all wrong, or as often right whatever "
                         "their scores; take rows of both kinds")  # fmt: skip
    low, high = steps[best - 1], steps[best + 1]
    while high - low > ACCURACY:
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return math.exp(-(low + high) / 2)


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

"""Metrics of generated text by its likelihood: loss per token, perplexity, bits per byte, accuracy per token.

The truth (N, 2) holds tokens and UTF-8 bytes of each text, the predictions (N, 2) its negative log-likelihood in nats
and the number of tokens that were the most probable ones.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from genus.evaluate.metrics import Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST = 700.0
"""Largest loss in nats whose exp is taken, since exp of a larger one overflows."""


class TokenLoss(Metric):
    """Negative log-likelihood per token, in nats: the cross-entropy loss."""

    judges: ClassVar[str] = "texts"
    larger_is_better: ClassVar[bool] = False

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return total nats / total tokens."""
        return float(predicted[:, 0].sum() / max(1.0, truth[:, 0].sum()))


class Perplexity(TokenLoss):
    """Perplexity per token: exp of the loss per token."""

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return exp(total nats / total tokens)."""
        return math.exp(min(super().__call__(truth, predicted), LARGEST))


class BitsPerByte(TokenLoss):
    """Bits per UTF-8 byte, which compares models of different vocabularies."""

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return total nats / (ln 2 x total bytes)."""
        return float(predicted[:, 0].sum() / (math.log(2) * max(1.0, truth[:, 1].sum())))


class TokenAccuracy(Metric):
    """Accuracy per token: the fraction of tokens that are the most probable ones after those before them."""

    judges: ClassVar[str] = "texts"

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return right tokens / total tokens."""
        return float(predicted[:, 1].sum() / max(1.0, truth[:, 0].sum()))

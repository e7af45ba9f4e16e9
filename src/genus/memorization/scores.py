"""Membership scores: how far a text that a model wrote looks as if it had been trained on; low ones do more.

    perplexity   P(x) = exp(-1/n Σ_i log p(x_i | x_1 ... x_(i-1)))
    small, medium   log P(x) / log P'(x), of a smaller model, or of another one, P'
    zlib         log P(x) / bits of x compressed by zlib
    lowercase    P(x) / P(x in lower case)
    window       the least perplexity of any 50 tokens in a row

Source: Carlini et al. 2020 (arXiv:2012.07805), sections 4.2, 5.2 and 6.1. Their released code takes the ratio of
logarithms for `lowercase` too.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genus.evaluate.token_likelihoods import token_log_likelihoods

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from genus.evaluate.likelihood import Progress
    from genus.export.folder import LoadedModel

WINDOW = 50
"""Tokens of a sliding window (Carlini et al. 2020, section 5.2)."""
LARGEST = 700.0
"""Largest number whose exp is taken, since exp of a larger one overflows."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the scores of a text are made of; logarithms of perplexities are in nats per token."""

    log_perplexity: float
    lowered: float
    """Log-perplexity of the text in lower case."""
    window: float
    """The least log-perplexity of `WINDOW` tokens in a row; of a shorter text, that of all."""
    zlib_bits: int
    small: float | None = None
    """Log-perplexity of the smaller model; None: there is none."""
    medium: float | None = None
    """Log-perplexity of the other model; None: there is none."""


def _ratio(own: float, other: float | None) -> float | None:
    """Return a ratio; a text that the other model is certain of, or does not see, is the last."""
    if other is None:
        return None
    return own / other if math.isfinite(own) and 0 < other < math.inf else math.inf


def _exponential(nats: float) -> float:
    """Return exp of a difference of logarithms within what a number can be; what is none is the last."""
    return math.exp(max(-LARGEST, min(nats, LARGEST))) if math.isfinite(nats) else math.inf


SCORES: dict[str, Callable[[Measured], float | None]] = {
    "perplexity": lambda one: _exponential(one.log_perplexity),
    "small": lambda one: _ratio(one.log_perplexity, one.small),
    "medium": lambda one: _ratio(one.log_perplexity, one.medium),
    "zlib": lambda one: one.log_perplexity / one.zlib_bits,
    "lowercase": lambda one: _exponential(one.log_perplexity - one.lowered),
    "window": lambda one: _exponential(one.window),
}
"""Each score of a text, None where its model is missing."""


def measure(
    model: LoadedModel,
    texts: Sequence[str],
    small: LoadedModel | None = None,
    medium: LoadedModel | None = None,
    *,
    precision: str = "float32",
    progress: Progress | None = None,
) -> list[Measured]:
    """Return what the scores of texts are made of; a text of which a tokenizer leaves nothing is the last.

    Raises:
        UsageError: a model does not predict the next token.
    """
    total, passes = (2 + (small is not None) + (medium is not None)) * len(texts), 0

    def told(done: int, _: int) -> None:
        if progress is not None:
            progress(passes * len(texts) + done, total)

    def read(one: LoadedModel, some: Sequence[str]) -> list[NDArray[np.float64]]:
        nonlocal passes
        found = token_log_likelihoods(
            one.learner, one.tokenizer, some, one.recipe.model.max_length, precision, progress=told
        )
        passes += 1
        return found

    own, lowered = read(model, texts), read(model, [text.lower() for text in texts])
    others = [None if one is None else read(one, texts) for one in (small, medium)]
    return [
        Measured(
            _log_perplexity(own[place]), _log_perplexity(lowered[place]), least_window(own[place]), zlib_bits(text),
            *(None if one is None else _log_perplexity(one[place]) for one in others),
        )
        for place, text in enumerate(texts)
    ]  # fmt: skip


def zlib_bits(text: str) -> int:
    """Return the bits of a text's UTF-8 compressed by zlib at its usual level."""
    return 8 * len(zlib.compress(text.encode(errors="replace")))


def least_window(nats: NDArray[np.float64], window: int = WINDOW) -> float:
    """Return the least -mean of log-probabilities over `window` tokens in a row; of fewer tokens, that of all."""
    if len(nats) <= window:
        return _log_perplexity(nats)
    sums = np.concatenate([[0.0], np.cumsum(nats)])
    return float(-(sums[window:] - sums[:-window]).max() / window)


def _log_perplexity(nats: NDArray[np.float64]) -> float:
    return float(-nats.mean()) if len(nats) else math.inf

"""Hidden tokens drawn one by one, or in spans."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.objectives.noise import RandomNoise
from genus.part import AtLeastOne

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TokenNoise(RandomNoise):
    """Tokens hidden independently of each other: every choice of their number is equally likely.

    Deviation: in the released code each token is hidden with probability `rate`, so that the number varies.

    Source: Raffel et al. 2019, section 3.3.1; released code, t5/data/preprocessors.py, iid_noise_mask.
    """

    @property
    def in_words(self) -> str:
        """The rate, and that tokens are drawn one by one."""
        return f"{100 * self.rate:g}% of tokens"

    def spans(self, text: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return min(hidden, seen + 1), the number of spans if no two hidden tokens are neighbors."""
        hidden = self.hidden(text)
        found: NDArray[np.int64] = np.minimum(hidden, text - hidden + 1)
        return found

    def draw(self, length: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Return (L,) true for the hidden tokens."""
        taken = np.zeros(length, dtype=np.bool_)
        taken[rng.permutation(length)[: self.hidden(np.array([length]))[0]]] = True
        return taken


class SpanNoise(RandomNoise):
    """Spans of a given mean length: all divisions into as many seen and hidden spans, a seen one first, are as likely.

    There are round(hidden / span) spans. A text of 568 tokens becomes a source of 512 and a target of 114 with their
    end tokens, at rate 0.15 and mean length 3.

    Source: Raffel et al. 2019, sections 3.1.4 and 3.3.4; released code, t5/data/preprocessors.py,
    random_spans_noise_mask.
    """

    span: AtLeastOne = 3.0
    """Mean number of tokens of a span."""

    @property
    def in_words(self) -> str:
        """The rate and the mean length."""
        return f"{100 * self.rate:g}% of tokens, in spans of {self.span:g}"

    def spans(self, text: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of spans, for each of which there is a seen token."""
        hidden = self.hidden(text)
        wanted: NDArray[np.float64] = np.maximum(np.rint(hidden / self.span), 1)
        found: NDArray[np.int64] = np.minimum(wanted.astype(np.int64), np.minimum(hidden, text - hidden))
        return found

    def draw(self, length: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Return (L,) true for the hidden tokens."""
        text = np.array([length])
        hidden, spans = int(self.hidden(text)[0]), int(self.spans(text)[0])
        if not spans:
            return np.zeros(length, dtype=np.bool_)
        runs = np.stack([parts(length - hidden, spans, rng), parts(hidden, spans, rng)], axis=1).flatten()
        return np.repeat(np.arange(len(runs)) % 2 == 1, runs)


def parts(total: int, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the sizes of `number` random parts of `total`, none of them empty; every division is equally likely."""
    cuts = np.sort(rng.choice(total - 1, number - 1, replace=False) + 1)
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)

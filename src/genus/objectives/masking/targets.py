"""Which tokens a permutation language model predicts: the last ones of the order, one in K.

Legend: L tokens of a stretch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from genus.part import Count, Part

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TargetSelection(Part, ABC):
    """A choice of the tokens to predict: one in `one_in` of them."""

    one_in: Count = 6
    """K of the paper."""

    @abstractmethod
    def choose(
        self, number: int, starts: NDArray[np.bool_], free: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Return (L,) true at `number` tokens, or at all there are.

        Args:
            number: how many.
            starts: (L,) true where a word starts.
            free: (L,) true where a token may be chosen.
            rng: what draws.
        """


class RandomTokens(TargetSelection):
    """Single tokens, each with equal chance (Yang et al. 2019, table 6: without span-based prediction)."""

    def choose(
        self, number: int, starts: NDArray[np.bool_], free: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Return them."""
        chosen = np.zeros(len(free), dtype=np.bool_)
        chosen[rng.permutation(np.flatnonzero(free))[:number]] = True
        return chosen


class ContextSpans(RandomTokens):
    """Spans of n tokens, each in a context of its own of K n tokens, at a random place in it that starts a word.

    n is at most `longest`, with p(n) ~ 1/n. What is then missing to the number is made up of single tokens. A span may
    end within a word, as in the released code: whether the next word has begun it asks of the span's first token, which
    always begins one, and so counts tokens.

    Source: Yang et al. 2019, section 2.6; released code, data_utils.py, _sample_mask. Deviations: a span lies within
    its K n tokens, as the paper says, not beside as many; one at the end is kept; the fixed tokens of the frame end a
    span and do not count.
    """

    longest: Count = 5

    def choose(
        self, number: int, starts: NDArray[np.bool_], free: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Return them."""
        chosen = np.zeros(len(free), dtype=np.bool_)
        chances = 1.0 / np.arange(1, self.longest + 1)
        sizes = 1 + rng.choice(self.longest, size=number, p=chances / chances.sum())
        before = rng.random(number)
        begins, at = np.flatnonzero(starts & free), 0
        for size, share in zip(sizes.tolist(), before.tolist(), strict=True):
            size = min(size, number - int(chosen.sum()))
            left = int(share * (size * self.one_in - size + 1))
            begin = np.searchsorted(begins, at + left)
            if not size or begin == len(begins) or begins[begin] + size > len(free):
                break
            span = slice(int(begins[begin]), int(begins[begin]) + size)
            chosen[span] = free[span]
            at = span.stop + size * self.one_in - left - size
        return chosen | super().choose(number - int(chosen.sum()), starts, free & ~chosen, rng)

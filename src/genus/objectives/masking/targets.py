"""Target selection of a permutation language model: partial prediction of one in K tokens, the last of the order.

Legend: L tokens of the part of a sequence from which targets are chosen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from genus.part import Count, Part

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TargetSelection(Part, ABC):
    """A selection of the tokens to predict, one in `one_in`."""

    one_in: Count = 6
    """K of the paper: one in K tokens is predicted."""

    @abstractmethod
    def choose(
        self, number: int, starts: NDArray[np.bool_], free: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Return a target mask (L,), true at `number` tokens, or at all free ones if they are fewer.

        Args:
            number: number of targets.
            starts: (L,) true where a word starts.
            free: (L,) true where a token may be chosen.
            rng: random generator.
        """


class RandomTokens(TargetSelection):
    """Single tokens, chosen uniformly (Yang et al. 2019, table 6: without span-based prediction)."""

    def choose(
        self, number: int, starts: NDArray[np.bool_], free: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Return the target mask (L,) of uniformly chosen tokens."""
        chosen = np.zeros(len(free), dtype=np.bool_)
        chosen[rng.permutation(np.flatnonzero(free))[:number]] = True
        return chosen


class ContextSpans(RandomTokens):
    """Span-based prediction: spans of n tokens, each at a random word start within its own context of K n tokens.

    n is at most `longest`, with p(n) ~ 1/n. If the spans have fewer tokens than required, single tokens are added. A
    span may end within a word, as in the released code, which tests for the next word start at the span's first token;
    that is always a word start, so the code counts tokens.

    Source: Yang et al. 2019, section 3.1; released code, data_utils.py, _sample_mask. Deviations: a span lies within
    its K n tokens, as the paper says, not beside as many; a span at the end is kept; the special tokens of the frame
    end a span and do not count.
    """

    longest: Count = 5

    def choose(
        self, number: int, starts: NDArray[np.bool_], free: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Return the target mask (L,) of spans and, if necessary, single tokens."""
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

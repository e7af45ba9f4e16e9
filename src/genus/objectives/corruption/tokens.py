"""Corruption of tokens and of spans of them: masking, deletion, infilling (BART).

"Released code" is fairseq/data/denoising_dataset.py.

Legend: L tokens of a text.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np

from genus.objectives.corruption import Corruption, Text, rounded_up
from genus.objectives.masking import random_tokens
from genus.part import Range, Share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.tokens.vocabulary import Vocabulary

LEAST = 1e-7
"""Probability of a span's length below which lengths end, and the length past which they end too (released code)."""
LENGTHS = 128
SPARE = 1
"""Tokens by which masks that are inserted may make a text longer than it was."""


class TokenMasking(Corruption):
    """Token masking: rate x L tokens, rounded up, become mask tokens, a share `random` of them random tokens.

    Source: Lewis et al. 2019, section 2.2; released code, `mask_length=subword`, `replace_length=1`.
    """

    needs_mask: ClassVar[bool] = True

    rate: Share = 0.15
    random: Share = 0.0

    @property
    def in_words(self) -> str:
        """The name and the rate."""
        return f"token masking ({self.rate:.0%})"

    def corrupt(self, text: Text, vocabulary: Vocabulary, rng: np.random.Generator) -> Text:
        """Return the text with masks in the place of tokens."""
        ids, chosen = text.ids.copy(), drawn(self.rate, len(text.ids), rng)
        ids[chosen] = masks(len(chosen), self.random, vocabulary, rng)
        return Text(ids, text.sentence)


class TokenDeletion(Corruption):
    """Token deletion: rate x L tokens, rounded up, are taken out; nothing shows where they were.

    Source: Lewis et al. 2019, section 2.2; released code, `mask_length=subword`, `replace_length=0`.
    """

    rate: Share = 0.15

    @property
    def in_words(self) -> str:
        """The name and the rate."""
        return f"token deletion ({self.rate:.0%})"

    def corrupt(self, text: Text, vocabulary: Vocabulary, rng: np.random.Generator) -> Text:
        """Return the tokens that are left."""
        return text.at(np.delete(np.arange(len(text.ids)), drawn(self.rate, len(text.ids), rng)))


class TextInfilling(Corruption):
    """Text infilling: each of several spans becomes one mask token, with which spans of length 0 are inserted.

    The lengths of spans are drawn from a Poisson distribution, p(k) ~ λᵏ / k!, until they sum to rate x n of n units,
    rounded up; the last one is cut to that sum. A span begins at a random unit, each at another, and ends where the
    text ends at the latest; of spans that overlap one mask is left. Masks of length 0 stand anywhere.

    Source: Lewis et al. 2019, section 2.2; released code, add_whole_word_mask and add_insertion_noise: with pieces of
    words, its units are whole words. Deviations: the first piece of a text begins a word too; masks are inserted only
    up to one more than the tokens that spans have taken out, so that a source's length is known before; each inserted
    one is a random token with the chance `random`, where the released code rounds their number up.
    """

    needs_mask: ClassVar[bool] = True

    rate: Share = 0.3
    span: Annotated[float, Range("a mean length from 0.1 to 16", lambda mean: 0.1 <= mean <= 16)] = 3.0
    """λ, the mean length of a span; there are spans of length 0. Above 16 their probability is below `LEAST`."""
    unit: Literal["word", "token"] = "word"
    """What lengths and the rate are counted in."""
    random: Share = 0.0
    """Share of spans in whose place a random token stands, not a mask."""

    @property
    def in_words(self) -> str:
        """The name, the rate, and the mean length."""
        return f"text infilling ({self.rate:.0%} of {self.unit}s, in spans of {self.span:g})"

    def longest(self, text: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return L + 1; an empty text stays empty."""
        longest: NDArray[np.int64] = text + np.minimum(text, SPARE)
        return longest

    def corrupt(self, text: Text, vocabulary: Vocabulary, rng: np.random.Generator) -> Text:
        """Return the text with masks in the place of spans, and between tokens."""
        length = len(text.ids)
        begins = np.flatnonzero(vocabulary.word_start[text.ids]) if self.unit == "word" else np.arange(length)
        begins = np.union1d(begins, np.arange(min(length, 1)))
        lengths = self.lengths(rounded_up(self.rate, len(begins)), rng)
        spans = lengths[lengths > 0]
        first = rng.permutation(len(begins))[: len(spans)]
        ends = np.append(begins, length)[np.minimum(first + spans, len(begins))]
        inside = np.zeros(length + 1, dtype=np.int64)
        np.add.at(inside, begins[first] + 1, 1)
        np.add.at(inside, ends, -1)
        ids = text.ids.copy()
        ids[begins[first]] = masks(len(first), self.random, vocabulary, rng)
        left = Text(ids, text.sentence).at(np.flatnonzero(np.cumsum(inside)[:length] == 0))
        number = min(len(lengths) - len(spans), length - len(left.ids) + SPARE)
        return inserted(left, masks(number, self.random, vocabulary, rng), rng)

    def lengths(self, total: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the lengths of spans, in units, which sum to `total`."""
        chances, found = poisson(self.span), np.zeros(0, dtype=np.int64)
        while found.sum() < total:
            found = np.append(found, rng.choice(len(chances), size=total, p=chances))
        before = np.cumsum(found) - found
        kept = before < total
        lengths: NDArray[np.int64] = np.minimum(found[kept], total - before[kept])
        return lengths


def drawn(rate: float, length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the places of rate x L tokens, rounded up; every choice is equally likely."""
    return rng.permutation(length)[: rounded_up(rate, length)]


def masks(number: int, random: float, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the ids of so many mask tokens, each a random token with the chance `random`."""
    ids = np.full(number, vocabulary.mask, dtype=np.int64)
    swapped = rng.random(number) < random
    ids[swapped] = random_tokens(int(swapped.sum()), vocabulary, rng)
    return ids


def inserted(text: Text, ids: NDArray[np.int64], rng: np.random.Generator) -> Text:
    """Return the text with tokens inserted, every choice of their places being equally likely.

    They belong to the sentence of the token before, at the front to that of the one after.
    """
    total = len(text.ids) + len(ids)
    new = np.zeros(total, dtype=np.bool_)
    new[rng.permutation(total)[: len(ids)]] = True
    both = np.zeros(total, dtype=np.int64)
    both[new], both[~new] = ids, text.ids
    if text.sentence is None or not len(text.ids):
        return Text(both, None if text.sentence is None else np.zeros(total, dtype=np.int64))
    return Text(both, text.sentence[np.maximum(np.cumsum(~new) - 1, 0)])


@lru_cache(maxsize=16)
def poisson(mean: float) -> NDArray[np.float64]:
    """Return the probabilities of 0, 1, 2, ... up to the first one below 1e-7, divided by their sum (released code)."""
    log = [k * math.log(mean) - mean - math.lgamma(k + 1) for k in range(LENGTHS)]
    chances = np.exp(log)
    small = np.flatnonzero(chances < LEAST)
    kept = chances[: small[0] + 1] if len(small) else chances
    return np.asarray(kept / kept.sum())

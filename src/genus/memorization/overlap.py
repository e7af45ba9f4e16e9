"""Trigram overlap: texts that say the same are counted once (Carlini et al. 2020, section 6.1)."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WORD = re.compile(r"\w+")
"""Words are split on white space and punctuation (ibid.)."""

Trigrams = Counter[tuple[str, str, str]]


def trigrams(text: str) -> Trigrams:
    """Return the multiset of the trigrams of words of a text."""
    words = WORD.findall(text)
    return Counter(zip(words, words[1:], words[2:], strict=False))


def is_duplicate(one: Trigrams, other: Trigrams) -> bool:
    """Return whether |tri(one) ∩ tri(other)| >= |tri(one)| / 2, as multisets."""
    return 2 * (one & other).total() >= one.total()


def best(texts: Sequence[str], scores: Sequence[float], number: int) -> list[int]:
    """Return the places of the texts with the lowest scores, without duplicates of those before; of equals the first.

    Args:
        texts: all texts.
        scores: of each.
        number: how many are returned at most.
    """
    found: list[int] = []
    kept: list[Trigrams] = []
    for place in sorted(range(len(texts)), key=lambda place: scores[place]):
        if len(found) == number:
            break
        mine = trigrams(texts[place])
        if not any(is_duplicate(mine, other) for other in kept):
            found.append(place)
            kept.append(mine)
    return found

"""Words, lines and repeated parts of a text, as the rules count them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from genus.text.segment import Segmenter

ELLIPSES = ("...", "\N{HORIZONTAL ELLIPSIS}")


def words_of(text: str, segmenter: Segmenter | None) -> list[str]:
    """Return the words of a text: what stands between white space, or what a segmenter finds, without white space."""
    return text.split() if segmenter is None else [word for word in segmenter.words(text) if not word.isspace()]


def share(holds: Iterable[bool]) -> float:
    """Return the share of items of which something holds, 0 of no items."""
    found = list(holds)
    return sum(found) / len(found) if found else 0.0


def repeats(parts: Iterable[str]) -> tuple[int, int]:
    """Return how many parts have stood before, and their characters."""
    seen: set[str] = set()
    number = characters = 0
    for part in parts:
        if part in seen:
            number += 1
            characters += len(part)
        seen.add(part)
    return number, characters


def most_frequent(words: Sequence[str], n: int) -> int:
    """Return the characters that all occurrences of the most frequent n-gram have, spaces included; 0: there is none.

    Of several that are as frequent, the first counts.
    """
    grams = Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    if not grams:
        return 0
    gram, number = grams.most_common(1)[0]
    return len(gram) * number


def repeated_characters(words: Sequence[str], n: int) -> int:
    """Return the characters of n-grams that have stood before, without spaces, none counted twice."""
    seen: set[str] = set()
    found = place = 0
    while place + n <= len(words):
        gram = "".join(words[place : place + n])
        if gram in seen:
            found += len(gram)
            place += n
        else:
            seen.add(gram)
            place += 1
    return found

"""Sets of shingles and rows of words compared, and the bands of MinHash signatures (Broder 1997)."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORD = re.compile(r"\w+")
STEP = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
"""Constants of SplitMix64 (Steele, Lea and Flood 2014)."""


def words_of(text: str) -> list[str]:
    """Return the words by which texts are compared: in lower case, without punctuation; else what there is."""
    return WORD.findall(text.lower()) or text.split()


def shingles(words: list[str], n: int) -> NDArray[np.uint64]:
    """Return the different hashes of the runs of n words, sorted; those of a shorter text are one run."""
    return np.unique(runs(words, min(n, len(words))))


def runs(words: list[str], n: int) -> NDArray[np.uint64]:
    """Return the hash of every run of n words in order; there is none in a shorter text."""
    hashes = np.fromiter(map(_word, words), np.uint64, len(words))
    found = np.zeros(max(0, len(words) - n + 1), np.uint64)
    for offset in range(n):
        found = mixed(found + hashes[offset : offset + len(found)])
    return found


def jaccard(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> float:
    """Return the Jaccard index of two sets, each sorted and without repetitions."""
    both = len(np.intersect1d(left, right, assume_unique=True))
    return both / max(1, len(left) + len(right) - both)


def edit_similarity(left: list[str], right: list[str]) -> float:
    """Return 1 - d / max(n, m) of the edit distance d of two rows of words (Lee et al. 2021, section 4.2)."""
    longest = max(len(left), len(right))
    return 1 - edit_distance(left, right) / longest if longest else 1.0


def edit_distance(left: list[str], right: list[str]) -> int:
    """Return the Levenshtein distance of two rows of words, a column of its table at a time as bits of integers.

    Source: Hyyrö 2003, "A bit-vector algorithm for computing Levenshtein and Damerau edit distances", figure 4.
    """
    if not left or not right:
        return max(len(left), len(right))
    places: dict[str, int] = {}
    for place, word in enumerate(left):
        places[word] = places.get(word, 0) | 1 << place
    full, last, distance = (1 << len(left)) - 1, 1 << (len(left) - 1), len(left)
    more, less = full, 0
    for word in right:
        match = places.get(word, 0)
        diagonal = (((match & more) + more) ^ more) | match | less
        up, down = less | (full & ~(diagonal | more)), more & diagonal
        distance += bool(up & last) - bool(down & last)
        up, down = (up << 1 | 1) & full, (down << 1) & full
        more, less = down | (full & ~(diagonal | up)), up & diagonal
    return distance


def found_with(similarity: float, bands: int, rows: int) -> float:
    """Return the probability that two sets of a Jaccard index agree in all rows of a band: 1 - (1 - J^rows)^bands."""
    return 1 - (1 - similarity**rows) ** bands


def rows_for(threshold: float, values: int, recall: float) -> int:
    """Return the most rows a band with which sets as similar as the threshold are found with a probability `recall`."""
    enough = (rows for rows in range(values, 1, -1) if found_with(threshold, values // rows, rows) >= recall)
    return next(enough, 1)


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return SplitMix64's finalization of each value."""
    values = values + STEP
    values = (values ^ (values >> np.uint64(30))) * FIRST
    values = (values ^ (values >> np.uint64(27))) * SECOND
    return values ^ (values >> np.uint64(31))


@lru_cache(1 << 16)
def _word(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(errors="replace"), digest_size=8).digest(), "little")

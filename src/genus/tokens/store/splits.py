"""Which documents of a token store are held out, and where documents are cut that are held out in part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def drawn(number: int, held_out: float) -> NDArray[np.bool_]:
    """Return (documents,) which of so many documents are held out if they are held out whole."""
    shares = _uniform(number)
    chosen = shares < held_out
    if held_out > 0:
        order, least = np.argsort(shares), 2 if number > 3 else 1
        chosen[order[:least]], chosen[order[-least:]] = True, False
    return chosen


def held_out_groups(groups: NDArray[np.int64], held_out: float) -> NDArray[np.bool_]:
    """Return (documents,) the same of documents that belong together by a number of each (documents,)."""
    names, place = np.unique(groups, return_inverse=True)
    return drawn(len(names), held_out)[place]


def last_sentences(sentences: NDArray[np.int64], documents: NDArray[np.int64], held_out: float) -> NDArray[np.int64]:
    """Return (documents,) the sentence from which on each document is held out; its end: nothing of it."""
    first, last = documents.T
    begin, end = sentences[first], sentences[last]
    cut = np.searchsorted(sentences, end - np.floor(held_out * (end - begin)).astype(np.int64))
    if held_out > 0 and (cut == last).all():
        long = np.argsort(first - last, kind="stable")[:2]
        cut[long] = np.maximum(last[long] - 1, np.minimum(first[long] + 1, last[long]))
    return np.asarray(cut, np.int64)


def _uniform(number: int) -> NDArray[np.float64]:
    """Return hashes in [0, 1] of 0, 1, ..., number - 1 (SplitMix64; Steele, Lea and Flood 2014, figure 3)."""
    bits = np.arange(1, number + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (bits ^ (bits >> np.uint64(31))).astype(np.float64) / 2.0**64

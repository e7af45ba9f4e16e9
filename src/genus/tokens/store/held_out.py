"""What of a store is held out: documents by a hash of each, or of what belongs together, or their last sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def drawn(number: int, together: NDArray[np.uint64] | None = None) -> NDArray[np.float64]:
    """Return a hash in [0, 1] of each of the documents 0, 1, ..., number - 1.

    Documents that are held out together have one, in every store: that of what they share.
    """
    found = uniform(np.arange(1, number + 1, dtype=np.uint64))
    return found if together is None else np.where(together > 0, uniform(together), found)


def held_out_documents(draws: NDArray[np.float64], held_out: float) -> NDArray[np.bool_]:
    """Return (documents,) which are held out: those with a lower draw than the fraction.

    Unless the fraction is 0, each side gets at least two documents if there are four, otherwise at least one. Equal
    draws stay on one side, even if nothing is held out then.
    """
    chosen = draws < held_out
    if held_out > 0:
        ordered, least = np.sort(draws), 2 if len(draws) > 3 else 1
        chosen = (chosen | (draws <= ordered[least - 1])) & (draws < ordered[-least])
    return chosen


def last_sentences(sentences: NDArray[np.int64], documents: NDArray[np.int64], held_out: float) -> NDArray[np.int64]:
    """Return (documents,) the sentence from which on each document is held out; its end: nothing of it.

    Args:
        sentences: offsets of the sentences, as a store has them.
        documents: (documents, 2) as a store has them.
        held_out: the fraction of each document.
    """
    first, last = documents.T
    begin, end = sentences[first], sentences[last]
    cut = np.searchsorted(sentences, end - np.floor(held_out * (end - begin)).astype(np.int64))
    if held_out > 0 and (cut == last).all():
        long = np.argsort(first - last, kind="stable")[:2]
        cut[long] = np.maximum(last[long] - 1, np.minimum(first[long] + 1, last[long]))
    return np.asarray(cut, np.int64)


def uniform(numbers: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return hashes in [0, 1] of numbers (SplitMix64; Steele, Lea and Flood 2014, figure 3)."""
    bits = numbers * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (bits ^ (bits >> np.uint64(31))).astype(np.float64) / 2.0**64

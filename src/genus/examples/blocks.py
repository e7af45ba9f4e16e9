"""The corpus in blocks of documents: large enough to be cut by array arithmetic, small enough for the memory.

Legend: S sentences of a block, D documents of a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from genus.tokens.store import Store

SENTENCES = 1 << 20
"""Sentences of a block, but for the rest of its last document. Part of what a plan is a function of: keep it."""


@dataclass(frozen=True, slots=True)
class SentenceBlock:
    """Consecutive documents of a store, flattened to sentences."""

    number: int
    """Position among the blocks of the store."""
    start: NDArray[np.int64]
    """(S,) first token of each sentence in the store."""
    stop: NDArray[np.int64]
    """(S,) past its last token; rising, and within a document equal to the start of the next sentence."""
    document: NDArray[np.int64]
    """(S,) number of the sentence's document in the store."""
    end: NDArray[np.int64]
    """(S,) past the last sentence of the document, as a number within the block."""


def blocks(store: Store) -> Iterator[SentenceBlock]:
    """Return the store block by block.

    Raises:
        GenusError: the store has no document.
    """
    if not len(store.documents):
        raise GenusError("the corpus is empty: no document has any text; check the files and the field that was read")
    total = np.cumsum(store.documents[:, 1] - store.documents[:, 0])
    first = 0
    number = 0
    while first < len(total):
        before = total[first - 1] if first else 0
        last = int(np.searchsorted(total, before + SENTENCES)) + 1
        yield _block(store, number, first, min(last, len(total)))
        first, number = last, number + 1


def follow(onward: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0, onward[0], onward[onward[0]], ... while it is below the length; `onward` must always move forward."""
    jumps = onward.tolist()
    visited = []
    at = 0
    while at < len(jumps):
        visited.append(at)
        at = jumps[at]
    return np.array(visited, dtype=np.int64)


def _block(store: Store, number: int, first: int, last: int) -> SentenceBlock:
    """Flatten documents [first, last)."""
    ranges = np.asarray(store.documents[first:last])
    sizes = ranges[:, 1] - ranges[:, 0]
    ends = np.cumsum(sizes)
    sentence = np.repeat(ranges[:, 0] - (ends - sizes), sizes) + np.arange(ends[-1])
    document = np.repeat(np.arange(first, last), sizes)
    return SentenceBlock(
        number, store.sentences[sentence], store.sentences[sentence + 1], document, np.repeat(ends, sizes)
    )

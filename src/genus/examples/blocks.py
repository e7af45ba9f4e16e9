"""Blocks of documents of a corpus: large enough for vectorized planning, small enough for memory.

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
"""Sentences per block; its last document may exceed it. Plans depend on this value: do not change it."""


@dataclass(frozen=True, slots=True)
class SentenceBlock:
    """Consecutive documents of a store, as flat arrays over sentences."""

    number: int
    """Index among the blocks of the store."""
    start: NDArray[np.int64]
    """(S,) index in the store of the first token of each sentence."""
    stop: NDArray[np.int64]
    """(S,) index past its last token; ascending, and within a document equal to the start of the next sentence."""
    document: NDArray[np.int64]
    """(S,) index in the store of the sentence's document."""
    end: NDArray[np.int64]
    """(S,) index in the block past the last sentence of the document."""


def blocks(store: Store) -> Iterator[SentenceBlock]:
    """Yield the store in blocks of about `SENTENCES` sentences.

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
    """Return the chain of indices 0, onward[0], onward[onward[0]], ... below the length; requires onward[i] > i."""
    jumps = onward.tolist()
    visited = []
    at = 0
    while at < len(jumps):
        visited.append(at)
        at = jumps[at]
    return np.array(visited, dtype=np.int64)


def _block(store: Store, number: int, first: int, last: int) -> SentenceBlock:
    """Return documents [first, last) as flat arrays over sentences."""
    ranges = np.asarray(store.documents[first:last])
    sizes = ranges[:, 1] - ranges[:, 0]
    ends = np.cumsum(sizes)
    sentence = np.repeat(ranges[:, 0] - (ends - sizes), sizes) + np.arange(ends[-1])
    document = np.repeat(np.arange(first, last), sizes)
    return SentenceBlock(
        number, store.sentences[sentence], store.sentences[sentence + 1], document, np.repeat(ends, sizes)
    )

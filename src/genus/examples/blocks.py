"""Blocks of documents of a corpus: large enough for vectorized planning, small enough for memory.

Legend: S sentences of a block, D documents of a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import GenusError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.tokens.store import Store

SENTENCES = 1 << 20
"""Sentences per block; its last document may exceed it. Plans depend on this value: do not change it."""


@dataclass(frozen=True, slots=True)
class Documents:
    """Documents [first, last) of a store, which are planned together."""

    number: int
    """Position among the blocks of the store."""
    first: int
    last: int
    sentences: int
    """How many sentences they have, by which their share of the store is measured."""


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


def cut(store: Store) -> tuple[Documents, ...]:
    """Return the blocks of a store.

    Raises:
        GenusError: the store has no document.
    """
    if not len(store.documents):
        raise GenusError("the corpus is empty: no document has any text; check the files and the field that was read")
    total = np.cumsum(store.documents[:, 1] - store.documents[:, 0])
    found: list[Documents] = []
    first = before = 0
    while first < len(total):
        last = min(int(np.searchsorted(total, before + SENTENCES)) + 1, len(total))
        through = int(total[last - 1])
        found.append(Documents(len(found), first, last, through - before))
        first, before = last, through
    return tuple(found)


def whole(store: Store) -> Documents:
    """Return all documents of a store as one block, however large: for formats that read text in order."""
    return Documents(0, 0, len(store.documents), int(np.diff(store.documents).sum()))


def flatten(store: Store, documents: Documents) -> SentenceBlock:
    """Return the sentences of documents as arrays: 32 bytes a sentence."""
    ranges = np.asarray(store.documents[documents.first : documents.last])
    sizes = ranges[:, 1] - ranges[:, 0]
    ends = np.cumsum(sizes)
    sentence = np.repeat(ranges[:, 0] - (ends - sizes), sizes) + np.arange(ends[-1])
    start, stop = store.sentences[sentence], store.sentences[sentence + 1]
    document = np.repeat(np.arange(documents.first, documents.last), sizes)
    return SentenceBlock(documents.number, start, stop, document, np.repeat(ends, sizes))


def follow(onward: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the chain of indices 0, onward[0], onward[onward[0]], ... below the length; requires onward[i] > i."""
    jumps = onward.tolist()
    visited = []
    at = 0
    while at < len(jumps):
        visited.append(at)
        at = jumps[at]
    return np.array(visited, dtype=np.int64)

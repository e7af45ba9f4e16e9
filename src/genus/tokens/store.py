"""The token store: a corpus as flat memory-mapped ids with sentence and document offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from genus.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Store:
    """A tokenized corpus, read through memory maps.

    Sentence s is tokens [sentences[s], sentences[s+1]) of `ids`. Document d is sentences [documents[d, 0], documents[d, 1]),
    so its tokens lie together, from sentences[documents[d, 0]] to sentences[documents[d, 1]]. A split shares `ids` and
    `sentences` with the whole store and keeps some rows of `documents`, in order. No document and no sentence is empty.
    """

    ids: NDArray[np.unsignedinteger]
    """(tokens of the whole store,) uint16 or uint32."""
    sentences: NDArray[np.int64]
    """(sentences of the whole store + 1,) offsets into `ids`."""
    documents: NDArray[np.int64]
    """(documents, 2) first and past-the-last sentence of each document."""
    document_bytes: NDArray[np.int64]
    """(documents,) UTF-8 bytes of each document's text, so that bits per byte can be told."""

    @classmethod
    def open(cls, folder: Path, tokenizer: Tokenizer | None = None) -> Store:
        """Open a store; refuse one that is unfinished or damaged, or that another tokenizer made."""
        raise NotImplementedError

    def split(self, held_out: float) -> tuple[Store, Store]:
        """Return the training documents and a held-out share of them, chosen by a hash of the document's number."""
        raise NotImplementedError


def prepare(
    sources: Iterable[Path | str],
    tokenizer: Tokenizer,
    folder: Path,
    *,
    workers: int,
    field: str = "text",
    progress: Callable[[int, int | None], None] | None = None,
) -> Store:
    """Tokenize a corpus into a store with parallel workers; a restart keeps what was finished."""
    raise NotImplementedError

"""The token store: a corpus as flat memory-mapped ids with sentence and document offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from genus.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Store:
    """A tokenized corpus, read through memory maps.

    Sentence s is tokens [sentences[s], sentences[s+1]); document d is sentences [documents[d], documents[d+1]).
    """

    ids: NDArray[np.unsignedinteger]
    """(tokens,) uint16 or uint32."""
    sentences: NDArray[np.int64]
    """(sentences+1,) offsets into `ids`."""
    documents: NDArray[np.int64]
    """(documents+1,) offsets into `sentences`."""
    characters: int
    """UTF-8 bytes of the text, so that bits per byte can be told."""

    @classmethod
    def open(cls, folder: Path, tokenizer: Tokenizer | None = None) -> Store:
        """Open a store; refuse one whose checksum, tokenizer or text does not match."""
        raise NotImplementedError

    def split(self, held_out: float) -> tuple[Store, Store]:
        """Return the training documents and a held-out share, chosen by a hash of the document's number."""
        raise NotImplementedError


def prepare(sources: Iterable[Path], tokenizer: Tokenizer, folder: Path, *, workers: int) -> Store:
    """Tokenize a corpus into a store with parallel workers; a restart keeps the shards that are whole."""
    raise NotImplementedError

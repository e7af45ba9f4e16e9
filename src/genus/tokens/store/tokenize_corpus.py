"""Tokenize text blocks, in this process or in worker processes, in the order of the corpus."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from genus.text.sentences import split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from genus.text import TextBlock
    from genus.tokens.tokenizer import Tokenizer

STRETCH = 1 << 20
"""Maximum characters of a document that are tokenized at once: the backend takes some 100 bytes for each."""


@dataclass(frozen=True, slots=True)
class EncodedBlock:
    """The tokenized documents of one block."""

    ids: bytes
    """Concatenated ids, in the tokenizer's id type."""
    sentences: NDArray[np.int64]
    """(sentences,) number of tokens, at least 1."""
    documents: NDArray[np.int64]
    """(documents, 3) number of codes (or sources), which stand before the sentences as sentences of their own, number
    of sentences, at least 1, and UTF-8 bytes of the text."""
    empty: int
    """Documents dropped because they have no token."""
    replaced: int
    cut: int
    unknown: int
    """Tokens that are the unknown token."""
    position: int
    """See `TextBlock`."""
    origins: bytes = b""
    """A line of JSON for each document with its source, row and kept fields, if they are asked for."""
    together: bytes = b""
    """8 bytes for each document: equal for those that are held out together, 0 for one by itself; if asked for."""


def encode_block(
    block: TextBlock, tokenizer: Tokenizer, origins: bool = False, together: str | None = None
) -> EncodedBlock:
    """Parse a block, tokenize its documents, and split their ids into sentences; a title is the first sentence."""
    found, encode, width = block.documents(), tokenizer.encode_parts, np.dtype(tokenizer.dtype).itemsize
    ids: list[bytes] = []
    documents: list[tuple[int, int, int]] = []
    places: list[bytes] = []
    groups: list[bytes] = []
    for text, title, names, row, kept in zip(
        found.texts, found.titles, found.codes, found.rows, found.kept, strict=True
    ):
        sentences = [part for stretch, cuts in stretches(text, title) for part in encode(stretch, cuts) if part]
        if sentences:
            codes = [code for name in names for code in encode(name, []) if code]
            ids += codes + sentences
            documents.append((len(codes), len(sentences), len(text.encode())))
            if together is not None:
                groups.append(_hashed(kept.get(together)))
            if origins:
                place = {"source": block.source, "row": row, **kept}
                places.append(json.dumps(place, default=str).encode() + b"\n")
    encoded = b"".join(ids)
    return EncodedBlock(
        ids=encoded,
        sentences=np.fromiter((len(sentence) // width for sentence in ids), np.int64, len(ids)),
        documents=np.array(documents, dtype=np.int64).reshape(-1, 3),
        empty=found.empty + len(found.texts) - len(documents),
        replaced=found.replaced,
        cut=found.cut,
        unknown=tokenizer.unknown(encoded),
        position=block.position,
        origins=b"".join(places),
        together=b"".join(groups),
    )


def _hashed(value: object) -> bytes:
    """Return a hash of 64 bits of a value, 0 of none."""
    if value is None:
        return bytes(8)
    return blake2b(str(value).encode(errors="replace"), digest_size=8).digest()


def stretches(text: str, title: int) -> Iterator[tuple[str, list[int]]]:
    """Yield a text in stretches that are tokenized at once, each with the ends of its sentences (`boundaries`).

    A text of at most `STRETCH` characters is one stretch. A longer one is cut after a sentence, else before white
    space, else anywhere: what tokenizing takes is bounded, and one token in a million characters may differ.
    """
    begin, cuts = 0, boundaries(text, title)
    while len(text) - begin > STRETCH:
        most = begin + STRETCH
        ends = [cut for cut in cuts[bisect_right(cuts, begin) : bisect_right(cuts, most)][-1:]]
        end = ends[0] if ends else max(text.rfind(" ", begin + 1, most), text.rfind("\n", begin + 1, most))
        end = end if end > begin else most
        yield text[begin:end], [cut - begin for cut in cuts if begin < cut < end]
        begin = end
    yield text[begin:], [cut - begin for cut in cuts if cut > begin]


def boundaries(text: str, title: int) -> list[int]:
    """Return the ends of a document's sentences except the last, in characters.

    A run of white space belongs to the sentence after it: tokenizers do not look across its start.
    """
    cuts = [title] if title else []
    end = title
    for sentence in split(text[title:]):
        kept = len(sentence.rstrip())
        if kept:
            cuts.append(end + kept)
        end += len(sentence)
    return cuts[:-1]

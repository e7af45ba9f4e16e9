"""Encode every distinct chunk of text once: the same ids as the backend's, several times faster.

BERT's and GPT-2's pre-tokenizers never look across the start of a white-space run, so the ids of a text are the ids of its chunks
laid end to end. Chunks repeat (Zipf), so their ids are remembered as bytes, and a text is a `b"".join` of table look-ups. What
is not proven to be separable (odd control characters, special tokens, scripts beyond ASCII in a chunk) goes to the backend whole.
"""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import tokenizers

MOST_CHUNKS = 1 << 19
"""Chunks remembered in one table, about 60 MB; a full table starts anew, as counting what is rare would cost more."""
LONGEST_CHUNK = 64
"""Characters of a chunk worth remembering; longer ones hardly ever come again."""


class Encoder(Protocol):
    """Text to ids, as the bytes of an array of the tokenizer's id type."""

    def __call__(self, text: str) -> bytes:
        """Return the ids of a text, special tokens not added."""


class WholeText:
    """The backend itself, a text at a time: the reference of the other encoders."""

    def __init__(self, backend: tokenizers.Tokenizer, typecode: str) -> None:
        self.backend = backend
        self.typecode = typecode

    def __call__(self, text: str) -> bytes:
        """Return the ids of a text, special tokens not added."""
        [encoding] = self.backend.encode_batch_fast([text], add_special_tokens=False)
        return array(self.typecode, encoding.ids).tobytes()


class _Table(dict[str, bytes]):
    """What `compute` returns, remembered."""

    def __init__(self, compute: Callable[[str], bytes]) -> None:
        self.compute = compute

    def __missing__(self, chunk: str) -> bytes:
        ids = self.compute(chunk)
        if len(chunk) <= LONGEST_CHUNK:
            if len(self) >= MOST_CHUNKS:
                self.clear()
            self[chunk] = ids
        return ids


class _Chunks:
    """Two tables: chunks between white space, and the pieces of plain ASCII chunks, which the model splits one by one."""

    pieces: re.Pattern[str]
    """The pre-tokenizer's rule for printable ASCII."""

    def __init__(self, whole: WholeText) -> None:
        self.whole = whole
        self.model = whole.backend.model
        self.specials = [token.content for token in whole.backend.get_added_tokens_decoder().values()]
        self.chunk_ids = _Table(self._chunk)
        self.piece_ids = _Table(self._piece)

    def _chunk(self, chunk: str) -> bytes:
        if not (chunk.isascii() and chunk.isprintable()) or any(map(chunk.__contains__, self.specials)):
            return self.whole(chunk)
        return b"".join(map(self.piece_ids.__getitem__, self.pieces.findall(self._normal(chunk))))

    def _piece(self, piece: str) -> bytes:
        return array(self.whole.typecode, [token.id for token in self.model.tokenize(piece)]).tobytes()

    def _normal(self, chunk: str) -> str:
        """Return what the normalizer, or the byte alphabet, makes of printable ASCII."""
        raise NotImplementedError


class BertChunks(_Chunks):
    """For BERT's normalizer (with `clean_text`) and pre-tokenizer: a chunk is what stands between white space."""

    pieces = re.compile(r"[0-9A-Za-z]+|[!-/:-@\[-`{-~]")
    dropped = "\x0b\x0c\x1c\x1d\x1e\x1f\x85"
    """Characters at which Python splits, and which BERT deletes as control characters."""

    def __init__(self, whole: WholeText, lowercase: bool) -> None:
        super().__init__(whole)
        self.lowercase = lowercase

    def __call__(self, text: str) -> bytes:
        """Return the ids of a text, special tokens not added."""
        if any(map(text.__contains__, self.dropped)):
            return self.whole(text)
        return b"".join(map(self.chunk_ids.__getitem__, text.split()))

    def _normal(self, chunk: str) -> str:
        return chunk.lower() if self.lowercase else chunk


class Gpt2Chunks(_Chunks):
    """For GPT-2's byte-level pre-tokenizer: a chunk is a run of white space and what follows it up to the next run.

    GPT-2's pattern has white space only at the start of a match, and looks ahead only from white space to what follows it.
    """

    pieces = re.compile(r"'(?:[stmd]|re|ve|ll)|\u0120?[A-Za-z]+|\u0120?[0-9]+|\u0120?[!-/:-@\[-`{-~]+|\u0120+(?![^\u0120])")
    runs = re.compile(r"[{0}]*[^{0}]+|[{0}]+".format(r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"))
    doubtful = "\x1c\x1d\x1e\x1f\u180e"
    """White space to some, and not to others."""

    def __init__(self, whole: WholeText) -> None:
        super().__init__(whole)
        self.spaced_ids = _Table(self._spaced)

    def __call__(self, text: str) -> bytes:
        """Return the ids of a text, special tokens not added."""
        words = text.split()
        single_spaced = " ".join(words)
        if words and text.endswith(single_spaced):
            words[0] = text[: len(text) - len(single_spaced)] + words[0]
            return self.chunk_ids[words[0]] + b"".join(map(self.spaced_ids.__getitem__, words[1:]))
        if any(map(text.__contains__, self.doubtful)):
            return self.whole(text)
        return b"".join(map(self.chunk_ids.__getitem__, self.runs.findall(text)))

    def _spaced(self, word: str) -> bytes:
        return self._chunk(f" {word}")

    def _normal(self, chunk: str) -> str:
        return chunk.replace(" ", "\u0120")

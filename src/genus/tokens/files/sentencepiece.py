"""sentencepiece's vocabulary files: the binary `.model`, a protocol buffer, and the `.vocab`, one piece per line.

Of the protocol buffer (sentencepiece_model.proto) only the fields on which ids depend are read: pieces, scores, types,
the precompiled map of the normalizer, and whether it keeps spaces.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""ModelProto.SentencePiece.Type; user-defined symbols are never part of another piece."""
BYTES_WRITTEN = frozenset(f"<0x{byte:02X}>" for byte in range(256))
"""The pieces of byte fallback, which encodes a character outside the vocabulary as its bytes, if a model has them."""
UNIGRAM, BPE = 1, 2
"""TrainerSpec.ModelType."""
VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
"""Wire types of protocol buffers."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """A trained sentencepiece vocabulary, in order of id."""

    texts: list[str]
    scores: list[float]
    """Log probabilities or, for BPE, the negative rank of learning; 0 for pieces that are not learned."""
    kinds: list[int]
    charsmap: bytes | None = None
    """The normalizer's precompiled map from characters to strings; None: there is none."""
    model: int = UNIGRAM
    keeps_spaces: bool = False
    """Whether runs of spaces, and spaces at the end of a text, are kept."""

    @property
    def unknown(self) -> int:
        """The id of the unknown piece."""
        return self.kinds.index(UNKNOWN)

    @property
    def has_bytes(self) -> bool:
        """Whether the model has byte fallback for characters outside the vocabulary."""
        return BYTE in self.kinds

    @property
    def controls(self) -> list[str]:
        """The control symbols: pieces that do not occur in texts."""
        return [text for text, kind in zip(self.texts, self.kinds, strict=True) if kind == CONTROL]


def read_model(path: Path) -> Pieces:
    """Read a sentencepiece `.model` file.

    Raises:
        GenusError: the file is damaged, or holds another model than unigram or BPE.
    """
    texts, scores, kinds = [], [], []
    charsmap, model, keeps_spaces = None, UNIGRAM, False
    try:
        for number, value in _fields(path.read_bytes()):
            inner = dict(_fields(value)) if isinstance(value, bytes) and number <= 3 else {}
            if number == 1:
                texts.append(_bytes(inner[1]).decode())
                scores.append(short(struct.unpack("<f", _bytes(inner.get(2, b"\0\0\0\0")))[0]))
                kinds.append(int(inner.get(3, NORMAL)))
            elif number == 2:
                model = int(inner.get(3, UNIGRAM))
            elif number == 3:
                charsmap, keeps_spaces = _bytes(inner.get(2, b"")) or None, inner.get(4, 1) == 0
        found = Pieces(texts, scores, kinds, charsmap, model, keeps_spaces)
        _ = found.unknown
    except (ValueError, LookupError, TypeError, struct.error):
        raise GenusError(f"{path}: is damaged, or no model of sentencepiece's") from None
    if model not in (UNIGRAM, BPE):
        raise GenusError(
            f"{path}: is a sentencepiece model of another kind than unigram or BPE, which alone can be read"
        )
    return found


def read_vocab(path: Path, unknown: str, controls: Collection[str]) -> Pieces:
    """Read a `.vocab` file: per line a piece, a tab and the score; it stores no types and no normalizer.

    Raises:
        GenusError: the file has another format, or lacks the unknown piece.
    """
    try:
        lines = [line.split("\t") for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n")]
        texts, scores = [text for text, _ in lines], [float(score) for _, score in lines]
        texts.index(unknown)
    except ValueError:
        raise GenusError(f"{path}: is no vocabulary of sentencepiece's with the piece {unknown}") from None
    return Pieces(texts, scores, kinds_of(texts, scores, unknown, controls))


def kinds_of(texts: list[str], scores: list[float], unknown: str, controls: Collection[str]) -> list[int]:
    """Return the types of pieces, from their names and from the score 0, which no learned piece has."""
    return [
        UNKNOWN if text == unknown else CONTROL if text in controls else USER_DEFINED if score == 0 else NORMAL
        for text, score in zip(texts, scores, strict=True)
    ]


def short(score: float) -> float:
    """Return a score as the shortest decimal of its float32, which every file format preserves exactly."""
    return float(str(np.float32(score)))


def write_model(path: Path, pieces: Pieces) -> None:
    """Write a `.model` file for sentencepiece, with default values for all other settings."""
    rows = []
    for text, score, kind in zip(pieces.texts, pieces.scores, pieces.kinds, strict=True):
        piece = _field(1, text.encode()) + _tag(2, FOUR_BYTES) + struct.pack("<f", score)
        rows.append(_field(1, piece if kind == NORMAL else piece + _field(3, kind)))  # as sentencepiece itself writes
    trainer = _field(3, pieces.model) + _field(4, len(pieces.texts)) + _field(40, pieces.unknown)
    trainer += _field(45, pieces.texts[pieces.unknown].encode())
    trainer += _field(35, 1) if pieces.has_bytes else b""  # byte_fallback
    normalizer = _field(2, pieces.charsmap or b"")
    normalizer += _field(4, 0) if pieces.keeps_spaces else b""  # remove_extra_whitespaces
    path.write_bytes(b"".join([*rows, _field(2, trainer), _field(3, normalizer)]))


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield (field number, value) for every field of a protocol buffer message; fixed-width values are bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == BYTES:
            size, at = _varint(data, at)
        else:
            size = {EIGHT_BYTES: 8, FOUR_BYTES: 4}[kind]
        if at + size > len(data):
            raise ValueError("cut short")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode the varint at offset `at` (7 bits per byte); return the value and the offset after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _bytes(value: bytes | int) -> bytes:
    if isinstance(value, int):
        raise TypeError("expected bytes")
    return value


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _tag(number, VARINT) + _number(value)
    return _tag(number, BYTES) + _number(len(value)) + value


def _tag(number: int, kind: int) -> bytes:
    return _number(number << 3 | kind)


def _number(value: int) -> bytes:
    """Encode a varint: 7 bits per byte, the lowest first."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])

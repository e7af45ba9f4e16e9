"""Byte tokenizer: a vocabulary of the 256 bytes, with no unknown tokens and no training."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from genus.part import Count
from genus.tokens import SpecialTokens, TokenizerConfig
from genus.tokens.cached_encoders import WholeText
from genus.tokens.files.layout import frame, read_config, read_specials, some
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from genus.tokens.cached_encoders import TextEncoder

ENWIK8 = SpecialTokens(
    pad="<pad>", unk="<pad>", eos="<eos>", cls="<eos>", sep="<eos>", mask="<pad>",
    single="$A <eos>", pair="$A <eos> $B:1 <eos>:1", summary="last",
)  # fmt: skip
"""Ids as in trax's byte-level models: padding 0, end of sequence 1, byte b is b + 2."""
NAMED = replace(ENWIK8, unk="<unk>", cls="<s>", mask="<mask>")
"""The same templates with a distinct name per role, to recognize the names in a folder."""
SPARE = re.compile(r"<unused\d+>")
"""Names of unused ids."""
WHITE_SPACE = b" \t\n\v\f\r"


def _written() -> list[str]:
    """Return the byte-level alphabet, one character per byte (GPT-2's released code, encoder.py, bytes_to_unicode)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


WRITTEN = _written()


class Bytes(TokenizerConfig):
    """UTF-8 byte tokenizer: the first ids are special tokens in the order of their roles, then come bytes 0 to 255.

    Further special tokens, such as sentinels, follow the bytes. The remaining ids up to `vocab_size` are unused.
    """

    vocab_size: Count = 258
    special_tokens: SpecialTokens = ENWIK8

    @property
    def unknown(self) -> str:
        """Description of the byte vocabulary: no text is unknown."""
        return "there are no words, only bytes: none is unknown"

    def __post_init__(self) -> None:
        """Check that the vocabulary has room for all bytes.

        Raises:
            ValueError: `vocab_size` is smaller than 256 bytes and the special tokens.
        """
        least = len(self._special()) + 256 + len(self.special_tokens.extra)
        if self.vocab_size < least:
            raise ValueError(f"vocab_size: expected at least {least} (256 bytes and the special tokens), "
                             f"got {self.vocab_size}")  # fmt: skip

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Return the tokenizer, which learns nothing from the texts.

        Raises:
            GenusError: there is no text.
        """
        next(some(texts))
        return Tokenizer.of(self, self.of_vocabulary())

    def of_vocabulary(self) -> Backend:
        """Return the backend: a byte-level BPE without merges."""
        special, extra = self._special(), self.special_tokens.extra
        spare = [f"<unused{number}>" for number in range(self.vocab_size - len(special) - 256 - len(extra))]
        pieces = {piece: number for number, piece in enumerate([*special, *WRITTEN, *extra, *spare])}
        backend = Backend(models.BPE(pieces, []))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.decoder = decoders.ByteLevel()
        backend.add_special_tokens([*map(self.added, special), *extra, *spare])
        frame(backend, self.special_tokens)
        return backend

    def added(self, name: str) -> str | AddedToken:
        """Return a special token with a role as it is found in a text: its name alone."""
        return name

    def _special(self) -> list[str]:
        """Return the distinct special tokens with a role: padding, end of sequence, then the others."""
        first = [
            self.special_tokens.pad,
            self.special_tokens.sep or self.special_tokens.eos,
            *self.special_tokens.roles().values(),
        ]
        return list(dict.fromkeys(name for name in first if name is not None))

    def word_starts(self, pieces: list[str]) -> list[bool]:
        """Return true for white space, which starts a word as in byte-level BPE."""
        spaces = {WRITTEN[byte] for byte in WHITE_SPACE}
        return [piece in spaces for piece in pieces]

    def as_inner_word(self, word: str) -> str:
        """Return the word with a leading space, with which it starts."""
        return word if word[:1].isspace() else f" {word}"

    def of_words(self, backend: Backend) -> tuple[Self, Backend]:
        """Return the part, and a backend that adds the space before a word."""
        spaced = Backend.from_str(backend.to_str())
        spaced.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
        return self, spaced

    def encoder(self, backend: Backend, typecode: str) -> TextEncoder:
        """Return an encoder that adds an offset to bytes; the backend encodes texts with names of special tokens."""
        return _BytesPlus(WholeText(backend, typecode), backend.get_vocab()[WRITTEN[0]])

    def hf_config(self) -> dict[str, Any]:
        """Return `PreTrainedTokenizerFast`, which reads any `tokenizer.json`."""
        return {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": self.special_tokens.sep}

    @classmethod
    def from_folder(cls, folder: Path, backend: Backend | None) -> tuple[Self, Backend] | None:
        """Read `tokenizer.json` with a byte-level BPE model that has no merges and the bytes in order."""
        if backend is None or not isinstance(backend.model, models.BPE):
            return None
        if json.loads(backend.to_str())["model"]["merges"]:
            return None
        pieces = backend.get_vocab()
        first = pieces.get(WRITTEN[0], -1)
        if [pieces.get(piece) for piece in WRITTEN] != list(range(first, first + 256)):
            return None
        specials = read_specials(read_config(folder), (NAMED,), pieces, folder, backend)
        extra = tuple(name for name in specials.extra if not SPARE.fullmatch(name))
        part = cls(vocab_size=len(pieces), special_tokens=replace(specials, extra=extra))
        return (part, backend) if part.of_vocabulary().get_vocab() == pieces else None


class _BytesPlus:
    """Byte encoder: the id of a byte is the byte plus the id of byte 0."""

    def __init__(self, whole: WholeText, first: int) -> None:
        self.whole, self.first = whole, first
        added = [re.escape(token.content) for token in whole.backend.get_added_tokens_decoder().values()]
        self.has_added = re.compile("|".join(added)).search

    def apart(self, text: str, cuts: Sequence[int]) -> list[int]:
        """Return all cuts if no special token is in the text, otherwise none."""
        return [] if self.has_added(text) else list(cuts)

    def placed(self, text: str, cuts: Sequence[int]) -> list[bytes]:
        """Return the backend's ids of each part."""
        return self.whole.placed(text, cuts)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the character of each byte."""
        return self.whole.offsets(text)

    def __call__(self, text: str) -> bytes:
        """Return the ids of a text without adding special tokens."""
        if self.has_added(text):
            return self.whole(text)
        ids = np.frombuffer(text.encode(), dtype=np.uint8).astype(self.whole.typecode) + self.first
        return ids.astype(self.whole.typecode).tobytes()

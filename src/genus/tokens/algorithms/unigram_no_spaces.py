"""Unigram language-model tokenizers for text in which spaces are pieces of their own (WangchanBERTa)."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers

from genus.part import Count
from genus.text.alignment import aligned
from genus.text.normalization import SPACE as NORMALIZATION_SPACE
from genus.text.normalization import Normalization
from genus.tokens import SpecialTokens
from genus.tokens.algorithms.byte_bpe import ROBERTA
from genus.tokens.algorithms.presegmented_words import ordered
from genus.tokens.algorithms.unigram import Unigram
from genus.tokens.files.layout import read_config, read_specials
from genus.tokens.files.sentencepiece import (
    Pieces,
    kinds_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from genus.part import Part
    from genus.tokens.cached_encoders import TextEncoder
    from genus.tokens.tokenizer import Tokenizer


class UnigramNoSpaces(Unigram):
    """Unigram language model over the text between spaces; a space is the token `<_>`.

    Ids as RoBERTa's: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, `<mask>` 4, and `<_>` 5. Other readers of
    `tokenizer.json` must normalize texts themselves.
    """

    lowercase: bool = True
    plain: bool = False
    longest: Count = 10
    normalization: Normalization | None = None
    special_tokens: SpecialTokens = ROBERTA

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Learn the vocabulary from normalized texts: special tokens first, then the space, then pieces."""
        cleaning = self.normalization
        return super().train(texts if cleaning is None else (cleaning.clean(text) for text in texts))

    def word_starts(self, pieces: list[str]) -> list[bool]:
        """Return true for every piece: pieces do not show where words start."""
        return [True] * len(pieces)

    def normalizers(self) -> list[Part]:
        """Return the normalization, if there is one."""
        return [] if self.normalization is None else [self.normalization]

    def encoder(self, backend: Backend, typecode: str) -> TextEncoder:
        """Return the encoder of `Unigram`, preceded by the normalization."""
        encode = super().encoder(backend, typecode)
        return encode if self.normalization is None else NormalizedTexts(self.normalization, encode)

    @classmethod
    def from_folder(cls, folder: Path, backend: Backend | None) -> tuple[Self, Backend] | None:
        """Read `tokenizer.json` with a unigram model that has the token `<_>`, without a normalization."""
        if (
            backend is None
            or not isinstance(backend.model, models.Unigram)
            or NORMALIZATION_SPACE not in backend.get_vocab()
        ):
            return None
        specials = read_specials(read_config(folder), (ROBERTA,), backend.get_vocab(), folder, backend)
        return cls(vocab_size=backend.get_vocab_size(), special_tokens=specials), backend

    def _kept(self, learned: list[tuple[str, float]]) -> Pieces:
        """Return special tokens in the order of fairseq's ids, the space, then pieces as in `Unigram`."""
        room = replace(self, vocab_size=self.vocab_size - 1)
        first, kept = ordered(self.special_tokens), Unigram._kept(room, learned)
        texts = [*first, NORMALIZATION_SPACE, *kept.texts[len(first) :]]
        scores = [*[0.0] * (len(first) + 1), *kept.scores[len(first) :]]
        return Pieces(texts, scores, kinds_of(texts, scores, self.special_tokens.unk or "<unk>", first))

    def _backend(self, model: models.Unigram, charsmap: bytes | None) -> Backend:
        backend = Backend(model)
        rules = [normalizers.Precompiled(charsmap)] if charsmap else [normalizers.Nmt(), normalizers.NFKC()]
        lowercase = [normalizers.Lowercase()] if self.lowercase else []
        backend.normalizer = normalizers.Sequence([*lowercase, *rules, normalizers.Replace(" ", NORMALIZATION_SPACE)])
        backend.pre_tokenizer = pre_tokenizers.Split(NORMALIZATION_SPACE, "isolated")
        backend.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace(NORMALIZATION_SPACE, " ")])
        return backend


class NormalizedTexts:
    """An encoder preceded by a normalization."""

    def __init__(self, cleaning: Normalization, encode: TextEncoder) -> None:
        self.cleaning, self.encode = cleaning, encode

    def __call__(self, text: str) -> bytes:
        """Return the ids of a text without adding special tokens."""
        return self.encode(self.cleaning.clean(text))

    def apart(self, text: str, cuts: Sequence[int]) -> list[int]:
        """Return all cuts: parts of a text are normalized separately."""
        return list(cuts)

    def placed(self, text: str, cuts: Sequence[int]) -> list[bytes]:
        """Return the ids of each part, encoded separately."""
        return [self(text[start:stop]) for start, stop in itertools.pairwise([0, *cuts, len(text)])]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the characters of the text as it was before it was normalized."""
        cleaned = self.cleaning.clean(text)
        return aligned(text, cleaned, self.encode.offsets(cleaned))

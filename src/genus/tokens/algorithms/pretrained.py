"""Pretrained tokenizers: `tokenizer.json` unchanged, for algorithms that no other part covers (Llama 3, CLIP)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from genus.errors import GenusError
from genus.part import VocabSize
from genus.tokens import SpecialTokens, TokenizerConfig
from genus.tokens.algorithms.byte_bpe import GPT2, ROBERTA, read_vocabulary, vocabulary_files
from genus.tokens.algorithms.unigram import FRAMES, SPACE
from genus.tokens.algorithms.wordpiece import BERT
from genus.tokens.cached_encoders import WholeText
from genus.tokens.files.layout import frame, read_config, read_specials

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from genus.tokens.cached_encoders import TextEncoder
    from genus.tokens.tokenizer import Tokenizer

CLIP = SpecialTokens(
    pad="<|endoftext|>",
    unk="<|endoftext|>",
    bos="<|startoftext|>",
    eos="<|endoftext|>",
    single="<|startoftext|> $A <|endoftext|>",
    pair="<|startoftext|> $A <|endoftext|> <|endoftext|> $B <|endoftext|>",
    summary="last",
)
LLAMA3 = SpecialTokens(
    bos="<|begin_of_text|>",
    eos="<|end_of_text|>",
    single="<|begin_of_text|> $A",
    pair="<|begin_of_text|> $A <|begin_of_text|> $B",
    summary="last",
)
USUAL = (BERT, ROBERTA, *FRAMES, CLIP, LLAMA3, GPT2, SpecialTokens(unk="<unk>", summary="last"))
WORD_END = "</w>"
"""End-of-word suffix in CLIP's vocabulary."""
CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""CLIP's pre-tokenization pattern (released code, simple_tokenizer.py)."""


class PretrainedTokenizer(TokenizerConfig):
    """A pretrained tokenizer of any algorithm, as in its `tokenizer.json`; it cannot be trained.

    Of the legacy formats, it reads CLIP's `vocab.json` and `merges.txt`, with end-of-word suffix `</w>`.
    """

    reads_any: ClassVar[bool] = True

    vocab_size: VocabSize
    word_prefix: str = ""
    """Prefix of pieces that start a word; empty if pieces do not show it: each then counts as the start of a word."""
    special_tokens: SpecialTokens = SpecialTokens()

    @property
    def in_words(self) -> str:
        """A description without the algorithm, which only `tokenizer.json` states."""
        return "tokenizer as published"

    @property
    def unknown(self) -> str:
        """A reference to `tokenizer.json`, which decides it."""
        return "as its tokenizer.json has it"

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Raise an error, since a pretrained tokenizer cannot be trained.

        Raises:
            GenusError: always.
        """
        raise GenusError(
            "a PretrainedTokenizer cannot be trained; give its folder with --tokenizer, or take other tokens"
        )

    def word_starts(self, pieces: list[str]) -> list[bool]:
        """Return true for pieces that begin with `word_prefix`."""
        return [piece.startswith(self.word_prefix) for piece in pieces]

    def as_inner_word(self, word: str) -> str:
        """Return the word with a leading space if the space is part of a piece and the tokenizer does not add it."""
        return word if word[:1].isspace() or self.word_prefix != BYTE_SPACE else f" {word}"

    def encoder(self, backend: Backend, typecode: str) -> TextEncoder:
        """Return the backend as the encoder, without caching."""
        return WholeText(backend, typecode)

    def hf_config(self) -> dict[str, Any]:
        """Return `PreTrainedTokenizerFast`, which reads any `tokenizer.json` exactly."""
        return {"tokenizer_class": "PreTrainedTokenizerFast"}

    def save_slow_files(self, backend: Backend, folder: Path) -> None:
        """Write `vocab.json` and `merges.txt` if they are of CLIP's form, which transformers reads."""
        if isinstance(backend.model, models.BPE) and backend.model.end_of_word_suffix == WORD_END:
            backend.model.save(str(folder))

    @classmethod
    def from_folder(cls, folder: Path, backend: Backend | None) -> tuple[Self, Backend] | None:
        """Read any `tokenizer.json`, or vocabulary and merges of CLIP."""
        found = backend
        if found is None:
            if (files := vocabulary_files(folder)) is None:
                return None
            found = _clip(*read_vocabulary(*files))
        known = found.get_vocab()
        specials = read_specials(read_config(folder), USUAL, known, folder, backend)
        if backend is None:
            found.add_special_tokens(specials.names())
            frame(found, specials)
        return cls(vocab_size=len(known), word_prefix=_word_prefix(found), special_tokens=specials), found


BYTE_SPACE = "\u0120"
"""The space in the byte-level alphabet."""


def _word_prefix(backend: Backend) -> str:
    """Return the prefix of a backend's pieces that start a word; empty if pieces do not show it."""
    if getattr(backend.model, "end_of_word_suffix", None):
        return ""
    state = json.loads(backend.to_str())
    steps = json.dumps([state["normalizer"], state["pre_tokenizer"], state["decoder"]], ensure_ascii=False)
    return BYTE_SPACE if '"ByteLevel"' in steps else SPACE if SPACE in steps else ""


def _clip(pieces: dict[str, int], merges: list[tuple[str, str]]) -> Backend:
    """Return CLIP's backend as in transformers: NFC, lower-cased, byte-level BPE with end-of-word suffix."""
    backend = Backend(models.BPE(pieces, merges, unk_token=CLIP.unk, end_of_word_suffix=WORD_END))
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    words = pre_tokenizers.Split(Regex(CLIP_WORDS), "removed", invert=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    return backend

"""Byte-level BPE over lower-cased words, whose last piece ends with `</w>` (CLIP)."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Self

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from genus.part import Natural, VocabSize
from genus.tokens import SpecialTokens
from genus.tokens.algorithms.byte_bpe import read_vocabulary, vocabulary_files
from genus.tokens.algorithms.end_of_word_bpe import ENDS, EndOfWord
from genus.tokens.cached_encoders import WholeText
from genus.tokens.files.layout import read_config, read_specials
from genus.tokens.tokenizer import Tokenizer
from genus.tokens.training import fit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from genus.tokens.cached_encoders import TextEncoder

START, END = "<|startoftext|>", "<|endoftext|>"
CLIP = SpecialTokens(
    pad=END,
    unk=END,
    bos=START,
    eos=END,
    single=f"{START} $A {END}",
    pair=f"{START} $A {END} {END} $B {END}",
    summary="last",
    in_text=False,
)
"""CLIP's special tokens (released code, simple_tokenizer.py); padding and the unknown token are transformers'."""
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""CLIP's words (released code, simple_tokenizer.py): letters, one digit, or other signs."""
SPACE = "\u0120"
"""The space in the byte-level alphabet."""
BYTES = 256


class EndOfWordByteBPE(EndOfWord):
    """Byte-level BPE of CLIP: lower-cased words, whose last piece has the suffix `</w>`; every byte is a piece.

    Ids as in CLIP: bytes, bytes that end a word, merges, and the special tokens last. Deviation: CLIP's released code
    cleans texts with ftfy and undoes HTML entities first; here, as in the Hugging Face library, it does not.
    """

    vocab_size: VocabSize
    min_frequency: Natural = 2
    """In training, minimum count of a pair of pieces to be merged."""
    special_tokens: SpecialTokens = CLIP

    @property
    def in_words(self) -> str:
        """The algorithm."""
        return "byte-level BPE of words, lower-cased"

    @property
    def unknown(self) -> str:
        """Description of the byte fallback: no word is unknown."""
        return "cut into pieces, bytes at worst: none is unknown"

    def __post_init__(self) -> None:
        """Check that the vocabulary has room for all bytes in both forms (ValueError)."""
        least = 2 * BYTES + len(self.special_tokens.names())
        if self.vocab_size < least:
            raise ValueError(f"vocab_size: expected at least {least} (bytes in two forms, and special tokens), got "
                             f"{self.vocab_size}")  # fmt: skip

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Learn the BPE merges from texts."""
        specials = sorted(self.special_tokens.names(), key=lambda name: name == self.special_tokens.eos)
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        backend = self.backend_of(models.BPE(end_of_word_suffix=ENDS))
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size - len(specials),
            min_frequency=self.min_frequency,
            special_tokens=[*alphabet, *(one + ENDS for one in alphabet)],
            initial_alphabet=alphabet,
            end_of_word_suffix=ENDS,
            show_progress=sys.stderr.isatty(),
        )
        fit(backend, self.sample(texts), trainer)
        model = json.loads(backend.to_str())["model"]
        pieces = model["vocab"] | {name: len(model["vocab"]) + number for number, name in enumerate(specials)}
        return Tokenizer.of(self, self.of_vocabulary(pieces, [(left, right) for left, right in model["merges"]]))

    def encoder(self, backend: Backend, typecode: str) -> TextEncoder:
        """Return the backend as the encoder, without caching."""
        return WholeText(backend, typecode)

    def hf_config(self) -> dict[str, Any]:
        """Return the class `CLIPTokenizer`."""
        return {"tokenizer_class": "CLIPTokenizer"}

    @classmethod
    def from_folder(cls, folder: Path, backend: Backend | None) -> tuple[Self, Backend] | None:
        """Read `tokenizer.json` of this form, or `vocab.json` and `merges.txt` with CLIP's special tokens."""
        merges: list[tuple[str, str]] = []
        if backend is not None:
            if not isinstance(backend.model, models.BPE) or backend.model.end_of_word_suffix != ENDS:
                return None
            if "ByteLevel" not in json.dumps(json.loads(backend.to_str())["pre_tokenizer"]):
                return None
            pieces = backend.get_vocab()
        elif files := vocabulary_files(folder):
            pieces, merges = read_vocabulary(*files)
            if not {START, END} <= pieces.keys():
                return None
        else:
            return None
        specials = read_specials(read_config(folder), (cls.special_tokens,), pieces, folder, backend)
        part = cls(vocab_size=len(pieces), special_tokens=specials.overlay({"in_text": False, "summary": "last"}))
        return part, backend or part.of_vocabulary(pieces, merges)

    @classmethod
    def backend_of(cls, model: models.BPE) -> Backend:
        """Return the backend of a model."""
        backend = Backend(model)
        spaces = normalizers.Replace(Regex(r"\s+"), " ")
        backend.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
        words = pre_tokenizers.Split(Regex(WORDS), "removed", invert=True)
        backend.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        backend.decoder = decoders.Sequence([decoders.Replace(ENDS, SPACE), decoders.ByteLevel()])
        return backend

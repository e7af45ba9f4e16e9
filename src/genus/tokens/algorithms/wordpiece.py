"""WordPiece of BERT: words and punctuation marks are split by greedy longest match into the pieces of the vocabulary.

Source: BERT's released code, tokenization.py.
"""

from __future__ import annotations

import sys
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from genus.errors import GenusError, say
from genus.part import Count, Natural, VocabSize
from genus.tokens import SpecialTokens
from genus.tokens.cached_encoders import BertPieces, WholeText
from genus.tokens.files.layout import frame, read_config, read_specials
from genus.tokens.tokenizer import Tokenizer
from genus.tokens.training import MOST_MARKED, TrainedTokens, fit, frequent_characters, marked

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from genus.tokens.cached_encoders import TextEncoder

BERT = SpecialTokens(
    pad="[PAD]",
    unk="[UNK]",
    cls="[CLS]",
    sep="[SEP]",
    mask="[MASK]",
    single="[CLS] $A [SEP]",
    pair="[CLS] $A [SEP] $B:1 [SEP]:1",
)
MASS = replace(BERT, single="$A [SEP]", pair="$A [SEP] $B [SEP]", target="[SEP] $A [SEP]", summary="last")
"""BERT's special tokens as MASS frames texts: the end token alone, with which the decoder begins too (fairseq)."""
CONTINUED = "##"
"""Continuation prefix of pieces that do not start a word."""


class WordPiece(TrainedTokens):
    """WordPiece with BERT's normalizer and pre-tokenizer.

    Control characters are dropped, any white space separates words, and each punctuation mark is a word.
    """

    needs_unknown: ClassVar[bool] = True

    vocab_size: VocabSize
    lowercase: bool = True
    strip_accents: bool | None = None
    """Drop combining marks after canonical decomposition; None: if lower-casing, as BERT does, except that a vocabulary
    is trained to keep them where more than `MOST_MARKED` of the letters have one, as in Thai, Hindi or Vietnamese."""
    split_cjk: bool = True
    """Treat every Chinese character as a word."""
    alphabet: Count = 1_000
    """In training, number of the most frequent characters kept; others become the unknown token. Chinese needs 6,000 or
    more."""
    min_frequency: Natural = 2
    """In training, minimum count of a pair of pieces to be merged."""
    special_tokens: SpecialTokens = BERT

    @property
    def in_words(self) -> str:
        """The algorithm, and whether texts are lower-cased."""
        return "WordPiece, lower-cased" if self.lowercase else "WordPiece"

    @property
    def unknown(self) -> str:
        """Description of the unknown token: one unknown character makes the whole word unknown."""
        return f"cut into pieces; a word with a character that is none becomes {self.special_tokens.unk} whole"

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Learn the vocabulary from texts: special tokens first, then characters, then merged pieces.

        The texts are read twice, the first time for their characters.
        """
        sample = self.sample(texts)
        if self.strip_accents is None and self.lowercase and (found := marked(sample)) > MOST_MARKED:
            say(
                f"{found:.0%} of the letters have accents or other marks, which are kept; BERT drops them if it "
                "lower-cases: set tokens.strip_accents=true for that"
            )
            return replace(self, strip_accents=False)._learned(sample)
        return self._learned(sample)

    def _learned(self, sample: Iterable[str]) -> Tokenizer:
        """Return the tokenizer of the vocabulary learned from a sample of texts."""
        backend = self._backend(
            models.WordPiece(unk_token=self.special_tokens.unk, continuing_subword_prefix=CONTINUED)
        )
        forms = 2  # of a character: at the start of a word, and inside
        most = min(self.alphabet, (self.vocab_size - len(self.special_tokens.names())) // forms)
        characters = frequent_characters(backend.normalizer.normalize_str, sample, most)
        trainer = trainers.WordPieceTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            initial_alphabet=characters,
            limit_alphabet=len(characters),
            special_tokens=[*self.special_tokens.names(), *(CONTINUED + one for one in characters if _continues(one))],
            continuing_subword_prefix=CONTINUED,
            show_progress=sys.stderr.isatty(),
        )
        fit(backend, sample, trainer)
        return Tokenizer.of(self, self.of_vocabulary(backend.get_vocab()))

    def word_starts(self, pieces: list[str]) -> list[bool]:
        """Return true for pieces that do not begin with `##`."""
        return [not piece.startswith(CONTINUED) for piece in pieces]

    def encoder(self, backend: Backend, typecode: str) -> TextEncoder:
        """Return the encoder with cached pieces, or the backend itself if it differs from BERT's."""
        whole = WholeText(backend, typecode)
        normalizer = backend.normalizer
        usual = isinstance(normalizer, normalizers.BertNormalizer) and normalizer.clean_text
        usual = usual and isinstance(backend.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        added = backend.get_added_tokens_decoder().values()
        if usual and not any(token.normalized or token.content.split() != [token.content] for token in added):
            return BertPieces(whole, normalizer.lowercase)
        return whole

    def hf_config(self) -> dict[str, Any]:
        """Return the options of `BertTokenizer`."""
        return {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.lowercase,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.split_cjk,
        }

    @classmethod
    def from_folder(cls, folder: Path, backend: Backend | None) -> tuple[Self, Backend] | None:
        """Read `tokenizer.json` with a WordPiece model, or `vocab.txt`.

        Without `do_lower_case` in `tokenizer_config.json`, texts are lower-cased if no piece is a capital letter.
        """
        config = read_config(folder)
        if backend is not None:
            normalizer = backend.normalizer
            if not isinstance(backend.model, models.WordPiece):
                return None
            if not isinstance(normalizer, normalizers.BertNormalizer) or not normalizer.clean_text:
                return None
            if not isinstance(backend.pre_tokenizer, pre_tokenizers.BertPreTokenizer):
                return None
            options = (normalizer.lowercase, normalizer.strip_accents, normalizer.handle_chinese_chars)
            pieces = backend.get_vocab()
        elif (folder / "vocab.txt").exists():
            pieces = _read_vocabulary(folder / "vocab.txt")
            lowercase = config.get("do_lower_case", not _has_capitals(pieces))
            options = (lowercase, config.get("strip_accents"), config.get("tokenize_chinese_chars", True))
        else:
            return None
        specials = read_specials(config, (BERT,), pieces, folder, backend)
        lowercase, strip_accents, split_cjk = options
        part = cls(
            vocab_size=len(pieces),
            lowercase=lowercase,
            strip_accents=strip_accents,
            split_cjk=split_cjk,
            special_tokens=specials,
        )
        return part, backend or part.of_vocabulary(pieces)

    def of_vocabulary(self, pieces: dict[str, int]) -> Backend:
        """Return the backend of a finished vocabulary, given as {piece: id}."""
        backend = self._backend(
            models.WordPiece(pieces, unk_token=self.special_tokens.unk, continuing_subword_prefix=CONTINUED)
        )
        backend.add_special_tokens(self.special_tokens.names())
        frame(backend, self.special_tokens)
        return backend

    def _backend(self, model: models.WordPiece) -> Backend:
        backend = Backend(model)
        backend.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=self.split_cjk,
            strip_accents=self.strip_accents,
            lowercase=self.lowercase,
        )
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece(prefix=CONTINUED)
        return backend


def _continues(character: str) -> bool:
    """Return whether a character can occur inside a word: BERT splits before and after punctuation."""
    return character.isalnum() or not (character.isascii() or unicodedata.category(character).startswith("P"))


def _read_vocabulary(file: Path) -> dict[str, int]:
    try:
        return models.WordPiece.read_file(str(file))
    except Exception as error:  # the library raises no narrower one
        raise GenusError(f"{file}: cannot be read as a vocabulary, one piece a line ({error})") from None


def _has_capitals(pieces: dict[str, int]) -> bool:
    """Return whether a capital letter A to Z is a piece: without one, words with capitals would be unknown."""
    return any(len(piece) == 1 and "A" <= piece <= "Z" for piece in pieces)

"""Unigram language-model tokenizers of sentencepiece, for text with and without spaces between words."""

from __future__ import annotations

import base64
import json
import sys
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from genus.errors import GenusError
from genus.part import Count, VocabSize
from genus.tokens import SpecialTokens
from genus.tokens.cached_encoders import CutAtSpaces, SpacedWords, WholeText
from genus.tokens.files.layout import choose, frame, further_in, named_in, read_config, read_specials
from genus.tokens.files.sentencepiece import (
    BYTE,
    BYTES_WRITTEN,
    UNIGRAM,
    Pieces,
    kinds_of,
    read_model,
    read_vocab,
    short,
    write_model,
)
from genus.tokens.tokenizer import Tokenizer
from genus.tokens.training import TrainedTokens, fit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from genus.tokens.cached_encoders import TextEncoder


ALBERT = SpecialTokens(
    pad="<pad>",
    unk="<unk>",
    bos="[CLS]",
    eos="[SEP]",
    cls="[CLS]",
    sep="[SEP]",
    mask="[MASK]",
    single="[CLS] $A [SEP]",
    pair="[CLS] $A [SEP] $B:1 [SEP]:1",
)

XLNET = SpecialTokens(
    pad="<pad>",
    unk="<unk>",
    cls="<cls>",
    sep="<sep>",
    mask="<mask>",
    single="$A <sep> <cls>:2",
    pair="$A <sep> $B:1 <sep>:1 <cls>:2",
    summary="last",
)

DEBERTA = SpecialTokens(
    pad="[PAD]",
    unk="[UNK]",
    bos="[CLS]",
    eos="[SEP]",
    cls="[CLS]",
    sep="[SEP]",
    mask="[MASK]",
    extra=("[MASK]",),
    single="[CLS] $A [SEP]",
    pair="[CLS] $A [SEP] $B:1 [SEP]:1",
)
"""DeBERTa-v3's special tokens; its released `spm.model` has no `[MASK]`, whose id follows the pieces."""

T5 = SpecialTokens(
    pad="<pad>",
    unk="<unk>",
    eos="</s>",
    extra=tuple(f"<extra_id_{number}>" for number in reversed(range(100))),
    single="$A </s>",
    pair="$A </s> $B </s>",
    target="<pad> $A </s>",
    summary="last",
)
"""T5's special tokens; the decoder begins with padding. Its released `spiece.model` has no sentinels, whose ids follow
the pieces in reverse order."""

PLAIN = SpecialTokens(pad="<pad>", unk="<unk>", bos="<s>", eos="</s>", summary="last")
"""sentencepiece's own special tokens, with templates that add none."""

FRAMES = (ALBERT, replace(XLNET, bos="<s>", eos="</s>"), DEBERTA, T5, PLAIN)
"""Sets of special tokens that a folder may have; the set with the most tokens in the vocabulary is taken."""

MODELS = ("spiece.model", "spm.model", "tokenizer.model", "sentencepiece.bpe.model")
"""File names of a sentencepiece model: the most common one, DeBERTa's, Llama's and XLM-R's."""

SPACE = "\u2581"
"""The space mark: the character for the space before a word in pieces."""

SPARE = 1.25
"""In training, pieces requested per piece wanted: pieces that join a word with punctuation are dropped."""


class Unigram(TrainedTokens):
    """Unigram language model over words that begin with a mark for the space before them.

    Texts are normalized with the precompiled map of a sentencepiece model, if there is one, otherwise with NFKC and
    sentencepiece's rules for control characters and spaces.

    Deviation: ALBERT's and XLNet's released code splits a comma from a digit afterwards; here, as in the Hugging Face
    library, the model's pieces are kept.
    """

    unspaced_per_piece: ClassVar[int] = 256
    """Fewer than of other algorithms, since EM passes over all of it many times: 300,000 letters took a minute."""

    vocab_size: VocabSize
    lowercase: bool = True
    plain: bool = True
    """First strip accents, and replace `` and '' by " (released code, preprocess_text); false if marks are letters."""
    longest: Count = 16
    """In training, maximum length of a piece in characters."""
    special_tokens: SpecialTokens = ALBERT

    @property
    def in_words(self) -> str:
        """The algorithm, its library, and whether texts are lower-cased."""
        return "unigram (sentencepiece), lower-cased" if self.lowercase else "unigram (sentencepiece)"

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Learn the vocabulary from texts: special tokens first, then pieces by descending probability.

        As in sentencepiece, no piece mixes letters, digits and other characters. Mixed pieces are dropped after
        training and not prevented before: the library considers as pieces only substrings of two different words, and
        a word with and without a comma counts as two.

        Raises:
            GenusError: there is no text, or it has more distinct characters than `vocab_size` allows.
        """
        backend = self._backend(models.Unigram(), None)
        trainer = trainers.UnigramTrainer(
            vocab_size=round(self.vocab_size * SPARE),
            special_tokens=self.special_tokens.names(),
            unk_token=self.special_tokens.unk,
            max_piece_length=self.longest,
            show_progress=sys.stderr.isatty(),
        )
        sample = self.sample(texts)
        try:
            fit(backend, sample, trainer)
        except GenusError:
            raise
        except Exception as error:  # the library raises no narrower one
            raise GenusError(
                f"tokens.vocab_size: {self.vocab_size:,} is too small for this text ({error}); take a larger one"
            ) from None
        learned = [(text, short(score)) for text, score in json.loads(backend.to_str())["model"]["vocab"] if score]
        return Tokenizer.of(self, self.of_vocabulary(self._kept(learned)))

    def _kept(self, learned: list[tuple[str, float]]) -> Pieces:
        """Return special tokens, all single characters, and the most probable pieces that are of one kind."""
        names = self.special_tokens.names()
        learned = sorted(learned, key=lambda piece: (-piece[1], piece[0]))
        alone = {text for text, _ in learned if len(text) == 1}
        joined = [text for text, _ in learned if len(text) > 1 and _is_of_one_kind(text)]
        kept = alone.union(joined[: max(0, self.vocab_size - len(names) - len(alone))])
        whole = [(name, 0.0) for name in names] + [piece for piece in learned if piece[0] in kept]
        texts, scores = [text for text, _ in whole], [score for _, score in whole]
        return Pieces(texts, scores, kinds_of(texts, scores, self.special_tokens.unk or "<unk>", names))

    def word_starts(self, pieces: list[str]) -> list[bool]:
        """Return true for pieces that begin with the space mark, and for pieces without a letter or digit."""
        return [piece.startswith(SPACE) or not any(map(str.isalnum, piece)) for piece in pieces]

    def encoder(self, backend: Backend, typecode: str) -> TextEncoder:
        """Return an encoder with cached words, or the backend itself if it splits texts elsewhere than at spaces."""
        return by_words(backend, typecode)

    def hf_config(self) -> dict[str, Any]:
        """Return the options of lower-casing and accents; `PreTrainedTokenizerFast` reads `tokenizer.json` exactly."""
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "do_lower_case": self.lowercase,
            "keep_accents": not self.plain,
        }

    def save_slow_files(self, backend: Backend, folder: Path) -> None:
        """Write `spiece.model` (DeBERTa: `spm.model`); it has a normalization only if the tokenizer came from one."""
        model = json.loads(backend.to_str())["model"]
        texts, scores = [text for text, _ in model["vocab"]], [score for _, score in model["vocab"]]
        special = [token.content for token in backend.get_added_tokens_decoder().values() if token.special]
        while texts[-1] in self.special_tokens.extra:  # released models lack them; their readers add them
            del texts[-1], scores[-1]
        kinds = kinds_of(texts, scores, self.special_tokens.unk or "<unk>", special)
        if model.get("byte_fallback"):
            kinds = [BYTE if text in BYTES_WRITTEN else kind for text, kind in zip(texts, kinds, strict=True)]
        name = "spm.model" if self.special_tokens.unk == DEBERTA.unk else "spiece.model"
        write_model(folder / name, Pieces(texts, scores, kinds, charsmap_of(backend)))

    @classmethod
    def from_folder(cls, folder: Path, backend: Backend | None) -> tuple[Self, Backend] | None:
        """Read `tokenizer.json` with a unigram model, or sentencepiece's `spiece.model` or `.vocab` file.

        Without `do_lower_case` and `keep_accents` in `tokenizer_config.json`, texts are lower-cased and accents
        stripped if no piece has a capital or an accent. Without templates in `tokenizer.json`, one of `FRAMES` is used.
        """
        config = read_config(folder)
        if backend is not None:
            if not isinstance(backend.model, models.Unigram):
                return None
            if not cuts_at_spaces(backend):
                return None
            steps = {step["type"] for step in _steps(backend)}
            specials = read_specials(config, FRAMES, backend.get_vocab(), folder, backend)
            part = cls(
                vocab_size=backend.get_vocab_size(),
                lowercase="Lowercase" in steps,
                plain="StripAccents" in steps,
                special_tokens=specials,
            )
            return part, backend
        pieces = _read(folder)
        if pieces is None:
            return None
        known = {text: number for number, text in enumerate(pieces.texts)}
        usual = choose(FRAMES, named_in(config), known)
        for name in (*further_in(config), *usual.extra):
            known.setdefault(name, len(known))
        specials = read_specials(config, FRAMES, known, folder, further=[*pieces.controls, *usual.extra])
        lowercase = config.get("do_lower_case", not any(map(_has_capital, known)))
        keep_accents = config.get("keep_accents", any(map(_has_mark, known)))
        part = cls(vocab_size=len(known), lowercase=lowercase, plain=not keep_accents, special_tokens=specials)
        return part, part.of_vocabulary(pieces)

    def of_vocabulary(self, pieces: Pieces) -> Backend:
        """Return the backend of a finished vocabulary; control symbols become special tokens."""
        vocabulary = list(zip(pieces.texts, pieces.scores, strict=True))
        model = models.Unigram(vocabulary, pieces.unknown, byte_fallback=pieces.has_bytes)
        backend = self._backend(model, pieces.charsmap)
        if pieces.has_bytes:
            backend.decoder = decoders.Sequence([decoders.ByteFallback(), backend.decoder])
        backend.add_special_tokens(list(dict.fromkeys([*self.special_tokens.names(), *pieces.controls])))
        frame(backend, self.special_tokens)
        return backend

    def _backend(self, model: models.Unigram, charsmap: bytes | None) -> Backend:
        backend = Backend(model)
        plain = [
            normalizers.Replace("``", '"'),
            normalizers.Replace("''", '"'),
            normalizers.NFKD(),
            normalizers.StripAccents(),
        ]
        lowercase = [normalizers.Lowercase()] if self.lowercase else []
        backend.normalizer = normalizers.Sequence([*(plain if self.plain else []), *lowercase, *rules(charsmap)])
        backend.pre_tokenizer = pre_tokenizers.Sequence(words())
        backend.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
        return backend


def rules(charsmap: bytes | None) -> list[normalizers.Normalizer]:
    """Return the normalizers: a model's precompiled map, otherwise the equivalent of sentencepiece's default."""
    return [normalizers.Precompiled(charsmap)] if charsmap else [normalizers.Nmt(), normalizers.NFKC()]


def words() -> list[pre_tokenizers.PreTokenizer]:
    """Return the pre-tokenizers that split a text at white space and mark the space before every word."""
    return [
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always"),
    ]


def by_words(backend: Backend, typecode: str) -> TextEncoder:
    """Return an encoder with cached words, or the backend itself if it splits texts elsewhere than at spaces."""
    whole = CutAtSpaces(backend, typecode)
    added = backend.get_added_tokens_decoder().values()
    usual = cuts_at_spaces(backend) and not any(token.content.split() != [token.content] for token in added)
    return SpacedWords(whole) if usual and _looks_at_characters(backend) else WholeText(backend, typecode)


def _looks_at_characters(backend: Backend) -> bool:
    """Return whether all steps of a backend's normalizer work within words, never across white space."""
    known = {"Precompiled", "Nmt", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Replace", "Strip"}
    return {step["type"] for step in _steps(backend)} <= known


def cuts_at_spaces(backend: Backend) -> bool:
    """Return whether a backend's pre-tokenizer is that of `words`."""
    before = backend.pre_tokenizer
    usual = pre_tokenizers.Sequence(words())
    return before is not None and json.loads(before.__getstate__()) == json.loads(usual.__getstate__())


def charsmap_of(backend: Backend) -> bytes | None:
    """Return the precompiled character map of a backend's normalizer; None: it has none."""
    maps = [step["precompiled_charsmap"] for step in _steps(backend) if step["type"] == "Precompiled"]
    return base64.b64decode(maps[0]) if maps else None


def _read(folder: Path) -> Pieces | None:
    """Return the unigram vocabulary of a sentencepiece file in a folder; None: there is none."""
    for name in MODELS:
        if (folder / name).exists():
            pieces = read_model(folder / name)
            return pieces if pieces.model == UNIGRAM else None
    for path in sorted(folder.glob("*.vocab")):
        return read_vocab(path, "<unk>", [name for usual in FRAMES for name in usual.names()])
    return None


def _steps(backend: Backend) -> list[dict[str, Any]]:
    """Return the steps of a backend's normalizer, as in `tokenizer.json`."""
    normalizer = json.loads(backend.to_str())["normalizer"] or {"normalizers": []}
    steps: list[dict[str, Any]] = normalizer.get("normalizers", [normalizer])
    return steps


def _is_of_one_kind(piece: str) -> bool:
    """Return whether a piece, apart from a space mark, is only letters, only digits, or one other character."""
    text = piece.removeprefix(SPACE)
    kinds = {unicodedata.category(character)[0] for character in text}
    return len(text) <= 1 or kinds <= {"L", "M"} or kinds == {"N"}


def _has_capital(piece: str) -> bool:
    """Return whether a piece is a single capital letter A to Z."""
    return len(piece) == 1 and "A" <= piece <= "Z"


def _has_mark(piece: str) -> bool:
    """Return whether a piece has a combining mark after NFKD, such as an accent."""
    return any(map(unicodedata.combining, unicodedata.normalize("NFKD", piece)))

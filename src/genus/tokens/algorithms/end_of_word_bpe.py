"""BPE over words whose last piece is told from the others, by `</w>` (GPT-1) or by `@@` on the others (CTRL)."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from genus.files import write_json
from genus.part import Count, Natural, VocabSize
from genus.tokens import SpecialTokens
from genus.tokens.algorithms.byte_bpe import read_vocabulary, vocabulary_files
from genus.tokens.cached_encoders import BertPieces, WholeText
from genus.tokens.files.layout import frame, read_config, read_specials
from genus.tokens.tokenizer import Tokenizer
from genus.tokens.training import TrainedTokens, fit, frequent_characters

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from genus.tokens.cached_encoders import TextEncoder

ENDS = "</w>"
"""Suffix of a piece that ends its word."""
GOES_ON = "@@"
"""Suffix, in files of CTRL's form, of a piece that does not."""
GPT1 = SpecialTokens(unk="<unk>", eos="\n</w>", in_text=False, summary="last")
"""GPT-1's unknown token, and the end of a line, its last piece, which no text has here and which ends documents."""
CTRL = SpecialTokens(unk="<unk>", eos="</s>", summary="last")
"""CTRL's unknown token; the end of documents is ours. Its control codes are words of its vocabulary."""
XLM = SpecialTokens(
    bos="<s>",
    eos="</s>",
    pad="<pad>",
    unk="<unk>",
    mask="<special1>",
    single="</s> $A </s>",
    pair="</s> $A </s> $B </s>",
    target="</s> $A </s>",
    summary="last",
)
"""XLM's special tokens, as MASS has them for sentences: the end token begins them too (released code, dataset.py)."""
CTRL_WORDS = r"\S+\n?"
"""CTRL's words: what is between white space, with the end of the line, if it follows (transformers, CTRLTokenizer)."""


class EndOfWord(TrainedTokens, ABC):
    """BPE whose pieces tell with the suffix `</w>` that they end a word."""

    def word_starts(self, pieces: list[str]) -> list[bool]:
        """Return true for all pieces, which do not show it."""
        return [True] * len(pieces)

    def of_vocabulary(self, pieces: dict[str, int], merges: list[tuple[str, str]]) -> Backend:
        """Return the backend of a finished vocabulary."""
        model = models.BPE(pieces, merges, unk_token=self.special_tokens.unk, end_of_word_suffix=ENDS)
        backend = self.backend_of(model)
        backend.add_special_tokens(self.special_tokens.names())
        frame(backend, self.special_tokens)
        return backend

    @classmethod
    @abstractmethod
    def backend_of(cls, model: models.BPE) -> Backend:
        """Return the backend of a model."""


class EndOfWordBPE(EndOfWord):
    """BPE over BERT's lower-cased words; pieces that end a word have the suffix `</w>` (Sennrich et al. 2016; GPT-1).

    Deviation: GPT-1's released code cleans texts with ftfy and finds words with spaCy; here, as in the Hugging Face
    library, words are those of BERT's pre-tokenizer. Ids as in GPT-1: `<unk>` 0, and the end of a line last.
    """

    needs_unknown: ClassVar[bool] = True

    vocab_size: VocabSize
    alphabet: Count = 1_000
    """In training, number of the most frequent characters kept; others become the unknown token."""
    min_frequency: Natural = 2
    """In training, minimum count of a pair of pieces to be merged."""
    special_tokens: SpecialTokens = GPT1

    @property
    def in_words(self) -> str:
        """The algorithm."""
        return "BPE of words"

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Learn the BPE merges from texts, which are read twice, the first time for their characters."""
        sample, backend = self.sample(texts), self.backend_of(models.BPE(end_of_word_suffix=ENDS))
        first, last = self.first(), self.last()
        forms = 2  # of a character: at the end of a word, and before
        most = min(self.alphabet, (self.vocab_size - len(first) - len(last)) // forms)
        normalize = (lambda text: text) if backend.normalizer is None else backend.normalizer.normalize_str
        characters = frequent_characters(normalize, sample, most)
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size - len(last),
            min_frequency=self.min_frequency,
            special_tokens=[*first, *(one + ENDS for one in characters)],
            initial_alphabet=characters,
            limit_alphabet=len(characters),
            end_of_word_suffix=ENDS,
            show_progress=sys.stderr.isatty(),
        )
        fit(backend, sample, trainer)
        model = json.loads(backend.to_str())["model"]
        pieces = model["vocab"] | {name: len(model["vocab"]) + number for number, name in enumerate(last)}
        return Tokenizer.of(self, self.of_vocabulary(pieces, [(left, right) for left, right in model["merges"]]))

    def first(self) -> list[str]:
        """Return the pieces with ids before all others: special tokens, but for the end of documents."""
        return [name for name in self.special_tokens.names() if name not in self.last()]

    def last(self) -> list[str]:
        """Return the pieces with ids after all others."""
        return [] if self.special_tokens.eos is None else [self.special_tokens.eos]

    def encoder(self, backend: Backend, typecode: str) -> TextEncoder:
        """Return the encoder with cached pieces; the backend itself if names of special tokens have white space."""
        whole = WholeText(backend, typecode)
        added = backend.get_added_tokens_decoder().values()
        plain = not any(token.content.split() != [token.content] for token in added)
        return BertPieces(whole, lowercase=True) if plain else whole

    def hf_config(self) -> dict[str, Any]:
        """Return the class `OpenAIGPTTokenizer`."""
        return {"tokenizer_class": "OpenAIGPTTokenizer"}

    @classmethod
    def from_folder(cls, folder: Path, backend: Backend | None) -> tuple[Self, Backend] | None:
        """Read `tokenizer.json` of this form, or `vocab.json` and `merges.txt` whose merges end words."""
        merges: list[tuple[str, str]] = []
        if backend is not None:
            if not cls.is_usual(backend):
                return None
            pieces = backend.get_vocab()
        elif files := vocabulary_files(folder):
            pieces, merges = read_vocabulary(*files)
            if not cls.claims(pieces, merges):
                return None
        else:
            return None
        specials = read_specials(read_config(folder), (cls.special_tokens,), pieces, folder, backend)
        part = cls(vocab_size=len(pieces), special_tokens=replace(specials, in_text=cls.special_tokens.in_text))
        return part, backend or part.of_vocabulary(pieces, merges)

    @classmethod
    def claims(cls, pieces: dict[str, int], merges: list[tuple[str, str]]) -> bool:
        """Return whether legacy files are of this form: not byte-level, so that a piece is the end of a line."""
        return cls.special_tokens.eos in pieces and any(right.endswith(ENDS) for _, right in merges)

    @classmethod
    def is_usual(cls, backend: Backend) -> bool:
        """Return whether a backend is one that `backend_of` makes, with a vocabulary of its own."""
        if not isinstance(backend.model, models.BPE) or backend.model.end_of_word_suffix != ENDS:
            return False
        states = [json.loads(one.to_str()) for one in (backend, cls.backend_of(backend.model))]
        return all(states[0][step] == states[1][step] for step in ("normalizer", "pre_tokenizer"))

    @classmethod
    def backend_of(cls, model: models.BPE) -> Backend:
        """Return the backend of a model."""
        backend = Backend(model)
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.BPEDecoder(suffix=ENDS)
        return backend


class ContinuedBPE(EndOfWordBPE):
    """BPE over what is between white space; in its files pieces that do not end a word have the suffix `@@` (CTRL).

    Here they have none, and those that end a word have `</w>`. A word may end with the end of its line.
    """

    special_tokens: SpecialTokens = CTRL

    def last(self) -> list[str]:
        """Return the pieces with ids after all others: CTRL's last is the end of a line, as a word's last character."""
        return [*super().last(), f"\n{ENDS}"]

    def encoder(self, backend: Backend, typecode: str) -> TextEncoder:
        """Return the backend as the encoder, without caching."""
        return WholeText(backend, typecode)

    def hf_config(self) -> dict[str, Any]:
        """Return the class `CTRLTokenizer`, which reads `vocab.json` and `merges.txt`."""
        return {"tokenizer_class": "CTRLTokenizer"}

    def save_slow_files(self, backend: Backend, folder: Path) -> None:
        """Write `vocab.json` with `@@` on pieces that do not end a word, and `merges.txt`."""
        backend.model.save(str(folder))
        special = {token.content for token in backend.get_added_tokens_decoder().values()}
        named = {piece if piece in special else written(piece): n for piece, n in backend.get_vocab().items()}
        write_json(folder / "vocab.json", dict(sorted(named.items(), key=lambda item: item[1])))

    @classmethod
    def from_folder(cls, folder: Path, backend: Backend | None) -> tuple[Self, Backend] | None:
        """Read `tokenizer.json` of this form, or `vocab.json` of CTRL's form with `merges.txt`."""
        files = None if backend is not None else vocabulary_files(folder)
        if files is None:
            return super().from_folder(folder, backend)
        named = json.loads(files[0].read_text(encoding="utf-8"))
        if not any(piece.endswith(GOES_ON) for piece in named):
            return None
        config = read_config(folder)
        specials = read_specials(config, (cls.special_tokens,), named, folder)
        special = set(specials.names())
        pieces = {piece if piece in special else read(piece): number for piece, number in named.items()}
        lines = files[1].read_text(encoding="utf-8").split("\n")[1:]
        merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines) if right]
        known = [(left, right) for left, right in merges if {left, right, left + right} <= pieces.keys()]
        part = cls(vocab_size=max(pieces.values()) + 1, special_tokens=specials)
        return part, part.of_vocabulary(pieces, known)

    @classmethod
    def backend_of(cls, model: models.BPE) -> Backend:
        """Return the backend of a model."""
        backend = Backend(model)
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(CTRL_WORDS), "removed", invert=True)
        backend.decoder = decoders.BPEDecoder(suffix=ENDS)
        return backend


def written(piece: str) -> str:
    """Return a piece as CTRL's files name it."""
    return piece.removesuffix(ENDS) if piece.endswith(ENDS) else piece + GOES_ON


def read(name: str) -> str:
    """Return the piece that CTRL's files name so."""
    return name.removesuffix(GOES_ON) if name.endswith(GOES_ON) else name + ENDS

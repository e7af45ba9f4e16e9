"""Byte-level BPE of GPT-2 and RoBERTa: there are no unknown tokens, and ids decode to the exact text."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from genus.errors import GenusError
from genus.part import Natural, VocabSize
from genus.tokens import SpecialTokens
from genus.tokens.cached_encoders import Gpt2Pieces, WholeText
from genus.tokens.files.layout import frame, read_config, read_specials
from genus.tokens.tokenizer import Tokenizer
from genus.tokens.training import TrainedTokens, fit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from genus.tokens.cached_encoders import TextEncoder

ROBERTA = SpecialTokens(
    pad="<pad>",
    unk="<unk>",
    bos="<s>",
    eos="</s>",
    cls="<s>",
    sep="</s>",
    mask="<mask>",
    single="<s> $A </s>",
    pair="<s> $A </s> </s> $B </s>",
)
BART = replace(ROBERTA, target="</s> <s> $A </s>", summary="last")
"""RoBERTa's special tokens; the decoder begins with the end token (fairseq, denoising_dataset.py, collate)."""
GPT2 = SpecialTokens(unk="<|endoftext|>", bos="<|endoftext|>", eos="<|endoftext|>", summary="last")
WHITE_SPACE = tuple("\u0120\u010a\u0109\u010d\u010b\u010c")
"""Space, line feed, tab, carriage return, vertical tab and form feed in the byte-level alphabet."""


class ByteBPE(TrainedTokens):
    """Byte-level BPE with GPT-2's pre-tokenizer: words with the space before them, digits, punctuation, white space.

    Ids as in fairseq: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, and `<mask>` last, after further special tokens.
    """

    vocab_size: VocabSize
    prefix_space: bool = False
    """Add a space before a text that has none, so that its first word is tokenized like one inside a sentence."""
    min_frequency: Natural = 2
    """In training, minimum count of a pair of pieces to be merged."""
    special_tokens: SpecialTokens = ROBERTA

    @property
    def in_words(self) -> str:
        """The common name, byte-level BPE."""
        return "byte-level BPE"

    @property
    def unknown(self) -> str:
        """Description of the byte fallback: no word is unknown."""
        return "cut into pieces, bytes at worst: none is unknown"

    def __post_init__(self) -> None:
        """Check that the vocabulary has room for all bytes.

        Raises:
            ValueError: `vocab_size` is smaller than 256 bytes and the special tokens.
        """
        special = len(self.special_tokens.names())
        if self.vocab_size < 256 + special:
            raise ValueError(
                f"vocab_size: expected at least {256 + special} (256 bytes and {special} special tokens), "
                f"got {self.vocab_size}"
            )

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Learn the BPE merges from texts."""
        first, last = in_order(self.special_tokens)
        backend = self._backend(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size - len(last),
            min_frequency=self.min_frequency,
            special_tokens=first,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=sys.stderr.isatty(),
        )
        fit(backend, self.sample(texts), trainer)
        model = json.loads(backend.to_str())["model"]
        pieces = {**model["vocab"], **{name: len(model["vocab"]) + number for number, name in enumerate(last)}}
        return Tokenizer.of(self, self.of_vocabulary(pieces, [(left, right) for left, right in model["merges"]]))

    def word_starts(self, pieces: list[str]) -> list[bool]:
        """Return true for pieces that begin with white space (fairseq's whole-word masking: with a space)."""
        return [piece.startswith(WHITE_SPACE) for piece in pieces]

    def as_inner_word(self, word: str) -> str:
        """Return the word with a leading space, the first word of a text too, as in the Hugging Face library."""
        return word if word[:1].isspace() else f" {word}"

    def of_words(self, backend: Backend) -> tuple[Self, Backend]:
        """Return part and backend that add the space before a word."""
        spaced = Backend.from_str(backend.to_str())
        spaced.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        return replace(self, prefix_space=True), spaced

    def encoder(self, backend: Backend, typecode: str) -> TextEncoder:
        """Return the encoder with cached pieces, or the backend itself if it differs from GPT-2's."""
        whole = WholeText(backend, typecode)
        split, model = backend.pre_tokenizer, backend.model
        usual = backend.normalizer is None and isinstance(split, pre_tokenizers.ByteLevel) and split.use_regex
        usual = usual and not split.add_prefix_space and isinstance(model, models.BPE) and not model.dropout
        added = backend.get_added_tokens_decoder().values()
        if usual and not any(token.rstrip or token.content.split() != [token.content] for token in added):
            return Gpt2Pieces(whole)
        return whole

    def hf_config(self) -> dict[str, Any]:
        """Return the options of `RobertaTokenizer` or, without special tokens around texts, of `GPT2Tokenizer`.

        Other templates need `PreTrainedTokenizerFast`.
        """
        framed = (self.special_tokens.single, self.special_tokens.pair) == (
            f"{self.special_tokens.cls} $A {self.special_tokens.sep}",
            f"{self.special_tokens.cls} $A {self.special_tokens.sep} "
            f"{self.special_tokens.sep} $B {self.special_tokens.sep}",
        )
        plain = (
            self.special_tokens.single == "$A"
            and self.special_tokens.bos is not None
            and self.special_tokens.eos is not None
        )
        name = "RobertaTokenizer" if framed else "GPT2Tokenizer" if plain else "PreTrainedTokenizerFast"
        return {"tokenizer_class": name, "add_prefix_space": self.prefix_space}

    @classmethod
    def from_folder(cls, folder: Path, backend: Backend | None) -> tuple[Self, Backend] | None:
        """Read `tokenizer.json` with a byte-level BPE model, or `vocab.json` with `merges.txt`."""
        config = read_config(folder)
        merges: list[tuple[str, str]] = []
        if backend is not None:
            split, model = backend.pre_tokenizer, backend.model
            if not isinstance(model, models.BPE) or not isinstance(split, pre_tokenizers.ByteLevel):
                return None
            if not split.use_regex or backend.normalizer is not None or model.end_of_word_suffix:
                return None
            pieces, prefix_space = backend.get_vocab(), split.add_prefix_space
        elif files := vocabulary_files(folder):
            pieces, merges = read_vocabulary(*files)
            if any(right.endswith("</w>") for _, right in merges[:100]):
                return None  # not byte-level: the ends of words are marked
            prefix_space = config.get("add_prefix_space", False)
        else:
            return None
        specials = read_specials(config, (ROBERTA, GPT2), pieces, folder, backend)
        part = cls(vocab_size=len(pieces), prefix_space=prefix_space, special_tokens=specials)
        return part, backend or part.of_vocabulary(pieces, merges)

    def of_vocabulary(self, pieces: dict[str, int], merges: list[tuple[str, str]]) -> Backend:
        """Return the backend of a finished vocabulary; its mask token absorbs the white space before it."""
        first, last = in_order(self.special_tokens)
        backend = self._backend(models.BPE(pieces, merges))
        backend.add_special_tokens(first)
        backend.add_special_tokens(
            [
                AddedToken(name, lstrip=True, normalized=False) if name == self.special_tokens.mask else name
                for name in last
            ]
        )
        frame(backend, self.special_tokens)
        return backend

    def _backend(self, model: models.BPE) -> Backend:
        backend = Backend(model)
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=self.prefix_space)
        backend.decoder = decoders.ByteLevel()
        return backend


def in_order(specials: SpecialTokens) -> tuple[list[str], list[str]]:
    """Return the special tokens with ids before all pieces, in fairseq's order, and those with ids after them."""
    roles = (specials.cls, specials.pad, specials.sep, specials.unk, specials.bos, specials.eos)
    first = list(dict.fromkeys(name for name in roles if name is not None))
    last = dict.fromkeys([*specials.extra, *([] if specials.mask is None else [specials.mask])])
    return first, [name for name in last if name not in first]


def vocabulary_files(folder: Path) -> tuple[Path, Path] | None:
    """Return a folder's vocabulary and merges files, with transformers' or OpenAI's names; None: there are none."""
    for names in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
        pieces, merges = (folder / name for name in names)
        if pieces.exists() and merges.exists():
            return pieces, merges
    return None


def read_vocabulary(pieces: Path, merges: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Read `vocab.json` and `merges.txt`: ({piece: id}, merges in order).

    Raises:
        GenusError: the files cannot be read.
    """
    try:
        return models.BPE.read_file(str(pieces), str(merges))
    except Exception as error:  # the library raises no narrower one
        raise GenusError(f"{pieces}: cannot be read as a vocabulary with {merges.name} ({error})") from None

"""Byte-level BPE, as GPT-2 and RoBERTa use it: no text is unknown, and ids give the text back byte for byte."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Self

from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from genus.errors import GenusError
from genus.part import Count, Natural
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
GPT2 = SpecialTokens(unk="<|endoftext|>", bos="<|endoftext|>", eos="<|endoftext|>", summary="last")
WHITE_SPACE = tuple("\u0120\u010a\u0109\u010d\u010b\u010c")
"""How the byte alphabet writes space, line feed, tab, carriage return, vertical tab and form feed."""


class ByteBPE(TrainedTokens):
    """Byte-level BPE with GPT-2's pre-tokenizer: words with the space before them, digits, punctuation, white space.

    Ids as fairseq gives them: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, and `<mask>` last, further special tokens before
    it.
    """

    vocab_size: Count
    prefix_space: bool = False
    """Put a space before a text that has none, so that its first word is encoded like one within a sentence."""
    min_frequency: Natural = 2
    """In training, how often a pair of pieces must occur to be joined."""
    special_tokens: SpecialTokens = ROBERTA

    @property
    def in_words(self) -> str:
        """The name in common use."""
        return "byte-level BPE"

    @property
    def unknown(self) -> str:
        """Nothing is unknown."""
        return "cut into pieces, bytes at worst: none is unknown"

    def __post_init__(self) -> None:
        """Refuse a vocabulary too small for the bytes.

        Raises:
            ValueError: fewer than 256 bytes and the special tokens.
        """
        special = len(self.special_tokens.names())
        if self.vocab_size < 256 + special:
            raise ValueError(
                f"vocab_size: expected at least {256 + special} (256 bytes and {special} special tokens), "
                f"got {self.vocab_size}"
            )

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Train the merges on texts."""
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
        """Return true for the pieces that begin with white space (fairseq's whole-word masks: with a space)."""
        return [piece.startswith(WHITE_SPACE) for piece in pieces]

    def as_inner_word(self, word: str) -> str:
        """Return the word after a space, as all but the first stand (as the Hugging Face library, the first too)."""
        return word if word[:1].isspace() else f" {word}"

    def encoder(self, backend: Backend, typecode: str) -> TextEncoder:
        """Return the encoder by pieces, or the backend where it is not GPT-2's to the letter."""
        whole = WholeText(backend, typecode)
        split, model = backend.pre_tokenizer, backend.model
        usual = backend.normalizer is None and isinstance(split, pre_tokenizers.ByteLevel) and split.use_regex
        usual = usual and not split.add_prefix_space and isinstance(model, models.BPE) and not model.dropout
        added = backend.get_added_tokens_decoder().values()
        if usual and not any(token.rstrip or token.content.split() != [token.content] for token in added):
            return Gpt2Pieces(whole)
        return whole

    def hf_config(self) -> dict[str, Any]:
        """Return the options of `RobertaTokenizer`, or where texts have no frame of `GPT2Tokenizer`."""
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
                return None  # no bytes with the space before them, but words with a mark at their ends
            prefix_space = config.get("add_prefix_space", False)
        else:
            return None
        specials = read_specials(config, (ROBERTA, GPT2), pieces, folder, backend)
        part = cls(vocab_size=len(pieces), prefix_space=prefix_space, special_tokens=specials)
        return part, backend or part.of_vocabulary(pieces, merges)

    def of_vocabulary(self, pieces: dict[str, int], merges: list[tuple[str, str]]) -> Backend:
        """Return the backend of a finished vocabulary; its mask token takes in the white space before it."""
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
    """Return the special tokens that stand before all pieces, in fairseq's order, and those that stand after them."""
    roles = (specials.cls, specials.pad, specials.sep, specials.unk, specials.bos, specials.eos)
    first = list(dict.fromkeys(name for name in roles if name is not None))
    last = dict.fromkeys([*specials.extra, *([] if specials.mask is None else [specials.mask])])
    return first, [name for name in last if name not in first]


def vocabulary_files(folder: Path) -> tuple[Path, Path] | None:
    """Return the files of pieces and of merges in a folder, by transformers' names or by OpenAI's."""
    for names in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
        pieces, merges = (folder / name for name in names)
        if pieces.exists() and merges.exists():
            return pieces, merges
    return None


def read_vocabulary(pieces: Path, merges: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the pieces by id, and the merges in order, of `vocab.json` and `merges.txt`.

    Raises:
        GenusError: they cannot be read.
    """
    try:
        return models.BPE.read_file(str(pieces), str(merges))
    except Exception as error:  # the library raises no narrower one
        raise GenusError(f"{pieces}: cannot be read as a vocabulary with {merges.name} ({error})") from None

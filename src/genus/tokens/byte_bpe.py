"""Byte-level BPE, as GPT-2 and RoBERTa use it: no text is unknown, and ids give the text back byte for byte."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Self

from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from genus.errors import GenusError
from genus.part import Count, Natural
from genus.tokens import Specials, Tokens
from genus.tokens.chunks import Gpt2Pieces, WholeText
from genus.tokens.layout import frame, read_config, read_specials, some
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from genus.tokens.chunks import Encoder

ROBERTA = Specials(
    pad="<pad>",
    unk="<unk>",
    cls="<s>",
    sep="</s>",
    mask="<mask>",
    single="<s> $A </s>",
    pair="<s> $A </s> </s> $B </s>",
)
WHITE_SPACE = tuple("\u0120\u010a\u0109\u010d\u010b\u010c")
"""How the byte alphabet writes space, line feed, tab, carriage return, vertical tab and form feed."""


class ByteBPE(Tokens):
    """Byte-level BPE with GPT-2's pre-tokenizer: words with the space before them, digits, punctuation, white space.

    Ids as fairseq gives them: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, and `<mask>` last.
    """

    vocab_size: Count
    prefix_space: bool = False
    """Put a space before a text that has none, so that its first word is encoded like one within a sentence."""
    min_frequency: Natural = 2
    """In training, how often a pair of pieces must occur to be joined."""
    specials: Specials = ROBERTA

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
            ValueError: fewer than 256 bytes and 5 special tokens.
        """
        if self.vocab_size < 261:
            raise ValueError(
                f"vocab_size: expected at least 261 (256 bytes and 5 special tokens), got {self.vocab_size}"
            )

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Train the merges on texts."""
        special = self.specials
        backend = self._backend(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size - 1,
            min_frequency=self.min_frequency,
            special_tokens=[special.cls, special.pad, special.sep, special.unk],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=sys.stderr.isatty(),
        )
        backend.train_from_iterator(some(texts), trainer)
        model = json.loads(backend.to_str())["model"]
        pieces = {**model["vocab"], special.mask: len(model["vocab"])}
        return Tokenizer.of(self, self.of_vocabulary(pieces, [(left, right) for left, right in model["merges"]]))

    def word_starts(self, pieces: list[str]) -> list[bool]:
        """Return true for the pieces that begin with white space (fairseq's whole-word masks: with a space)."""
        return [piece.startswith(WHITE_SPACE) for piece in pieces]

    def within(self, word: str) -> str:
        """Return the word after a space, as all but the first stand (as the Hugging Face library, the first too)."""
        return word if word[:1].isspace() else f" {word}"

    def encoder(self, backend: Backend, typecode: str) -> Encoder:
        """Return the encoder by pieces, or the backend where it is not GPT-2's to the letter."""
        whole = WholeText(backend, typecode)
        split, model = backend.pre_tokenizer, backend.model
        usual = backend.normalizer is None and isinstance(split, pre_tokenizers.ByteLevel) and split.use_regex
        usual = usual and not split.add_prefix_space and isinstance(model, models.BPE) and not model.dropout
        added = backend.get_added_tokens_decoder().values()
        if usual and not any(token.rstrip or token.content.split() != [token.content] for token in added):
            return Gpt2Pieces(whole)
        return whole

    def hugging_face(self) -> dict[str, Any]:
        """Return the options of `RobertaTokenizer`."""
        return {
            "tokenizer_class": "RobertaTokenizer",
            "add_prefix_space": self.prefix_space,
            "bos_token": self.specials.cls,
            "eos_token": self.specials.sep,
        }

    @classmethod
    def adopt(cls, folder: Path, backend: Backend | None) -> tuple[Self, Backend] | None:
        """Read `tokenizer.json` with a byte-level BPE model, or `vocab.json` with `merges.txt`."""
        config = read_config(folder)
        merges: list[tuple[str, str]] = []
        if backend is not None:
            split = backend.pre_tokenizer
            if not isinstance(backend.model, models.BPE) or not isinstance(split, pre_tokenizers.ByteLevel):
                return None
            if not split.use_regex:
                return None
            pieces, prefix_space = backend.get_vocab(), split.add_prefix_space
        elif (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
            pieces, merges = read_vocabulary(folder / "vocab.json", folder / "merges.txt")
            prefix_space = config.get("add_prefix_space", False)
        else:
            return None
        specials = read_specials(config, ROBERTA, pieces, folder)
        part = cls(vocab_size=len(pieces), prefix_space=prefix_space, specials=specials)
        return part, backend or part.of_vocabulary(pieces, merges)

    def of_vocabulary(self, pieces: dict[str, int], merges: list[tuple[str, str]]) -> Backend:
        """Return the backend of a finished vocabulary; its mask token takes in the white space before it."""
        special = self.specials
        backend = self._backend(models.BPE(pieces, merges))
        backend.add_special_tokens([special.cls, special.pad, special.sep, special.unk])
        backend.add_special_tokens([AddedToken(special.mask, lstrip=True, normalized=False)])
        frame(backend, special)
        return backend

    def _backend(self, model: models.BPE) -> Backend:
        backend = Backend(model)
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=self.prefix_space)
        backend.decoder = decoders.ByteLevel()
        return backend


def read_vocabulary(pieces: Path, merges: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the pieces by id, and the merges in order, of `vocab.json` and `merges.txt`.

    Raises:
        GenusError: they cannot be read.
    """
    try:
        return models.BPE.read_file(str(pieces), str(merges))
    except Exception as error:  # the library raises no narrower one
        raise GenusError(f"{pieces}: cannot be read as a vocabulary with {merges.name} ({error})") from None

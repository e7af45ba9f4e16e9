"""Station 2, documents to ids: the slot `Tokens`, its trained form `Tokenizer`, and the token store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

from genus.part import Part

if TYPE_CHECKING:
    from genus.tokens.tokenizer import Tokenizer


class Specials(Part):
    """The special tokens, and how they frame one segment of text or two.

    `single` and `pair` are templates as `tokenizers.processors.TemplateProcessing` reads them: `$A` and `$B` are the
    segments, `:1` gives the segment number, everything else is a special token.
    """

    pad: str
    unk: str
    cls: str
    sep: str
    mask: str
    single: str
    pair: str


class Tokens(Part, ABC):
    """A choice of tokenization, before it has been trained on a corpus.

    Every concrete part has the fields `vocab_size` (the size asked for, special tokens included) and `specials`.
    """

    vocab_size: int
    specials: Specials

    @abstractmethod
    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Train the vocabulary on texts and return the tokenizer; it may come out smaller than `vocab_size`."""

    @abstractmethod
    def word_starts(self, pieces: list[str]) -> list[bool]:
        """Return, for every piece of the vocabulary in order of id, whether it starts a word."""

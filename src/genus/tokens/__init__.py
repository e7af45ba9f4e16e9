"""Station 2, documents to ids: the slot `Tokens`, its trained form `Tokenizer`, and the token store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

from genus.part import Count, Part

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import tokenizers

    from genus.tokens.chunks import Encoder
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

    def names(self) -> list[str]:
        """Return the five special tokens."""
        return [self.pad, self.unk, self.cls, self.sep, self.mask]


class Tokens(Part, ABC):
    """A choice of tokenization, before it has been trained on a corpus.

    Every concrete part has the fields `vocab_size` (the size asked for, special tokens included) and `specials`.
    """

    vocab_size: Count
    specials: Specials

    @property
    def unknown(self) -> str:
        """What becomes of a word that the vocabulary does not have, in words."""
        return f"cut into pieces; a character that is none becomes {self.specials.unk}"

    @abstractmethod
    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Train the vocabulary on texts and return the tokenizer; it may come out smaller than `vocab_size`.

        Raises:
            GenusError: there is no text.
        """

    @abstractmethod
    def word_starts(self, pieces: list[str]) -> list[bool]:
        """Return, for every piece of the vocabulary in order of id, whether it starts a word."""

    def within(self, word: str) -> str:
        """Return a word, of those that a text is given as, so written that its ids alone are those within the text."""
        return word

    def beforehand(self) -> list[Part]:
        """Return what changes a text before the backend sees it, and so decides ids beside the backend."""
        return []

    @abstractmethod
    def encoder(self, backend: tokenizers.Tokenizer, typecode: str) -> Encoder:
        """Return the fastest encoder that gives the backend's ids, as arrays of `typecode`."""

    def save_legacy(self, backend: tokenizers.Tokenizer, folder: Path) -> None:
        """Write the vocabulary files of those who do not read `tokenizer.json`."""
        backend.model.save(str(folder))

    @abstractmethod
    def hugging_face(self) -> dict[str, Any]:
        """Return what `tokenizer_config.json` says of this tokenization: its class there, and the class's options."""

    @classmethod
    @abstractmethod
    def adopt(cls, folder: Path, backend: tokenizers.Tokenizer | None) -> tuple[Self, tokenizers.Tokenizer] | None:
        """Read a folder in the Hugging Face layout; None where it holds another tokenization.

        Args:
            folder: holds `tokenizer_config.json` and such, if anything.
            backend: what `tokenizer.json` holds; None where only the legacy vocabulary files are there.
        """

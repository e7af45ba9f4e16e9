"""A trained tokenizer: text to ids and back, saved as `tokenizer.json` with the legacy vocabulary files beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import tokenizers

    from genus.tokens import Tokens
    from genus.tokens.vocabulary import Vocabulary


@dataclass(frozen=True)
class Tokenizer:
    """A trained tokenizer and the choices it came from."""

    tokens: Tokens
    """`vocab_size` here is the true size of the trained vocabulary."""
    backend: tokenizers.Tokenizer

    @property
    def vocabulary(self) -> Vocabulary:
        """The facts that later stations need."""
        raise NotImplementedError

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode texts without special tokens."""
        raise NotImplementedError

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens left out."""
        raise NotImplementedError

    def hash(self) -> str:
        """Return 16 hexadecimal digits that change whenever the tokenization could."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json` and the legacy vocabulary files."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read a tokenizer folder, ours or one in the Hugging Face layout (legacy `vocab.txt` or `vocab.json` too)."""
        raise NotImplementedError

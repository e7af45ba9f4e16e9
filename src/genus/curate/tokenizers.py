"""The tokenizers that a process of a curation has loaded."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tokens.tokenizer import Tokenizer


@cache
def loaded(folder: Path) -> Tokenizer:
    """Return the tokenizer of a folder, which is loaded once."""
    from genus.tokens.tokenizer import Tokenizer

    return Tokenizer.load(folder)

"""What must hold of a tokenizer that was saved and is read again, here and by Hugging Face's library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

removals = pytest.mark.parametrize(
    "removed", [(), ("tokens.json",), ("tokens.json", "tokenizer.json")], ids=["all", "HF", "legacy"]
)


def same_again(trained: Tokenizer, folder: Path, removed: tuple[str, ...], text: str) -> None:
    """Save it, remove some of the files, and read the others."""
    trained.save(folder)
    for name in removed:
        (folder / name).unlink()
    again = Tokenizer.load(folder)
    assert again.tokens == trained.tokens
    assert again.pieces == trained.pieces
    assert again.hash() == trained.hash()
    assert again.encode([text]) == trained.encode([text])


def read_by_hugging_face(trained: Tokenizer, folder: Path, text: str) -> Any:
    """Save it; the other library's tokenizer, which is returned, frames a text and a pair of texts alike."""
    transformers = pytest.importorskip("transformers")
    trained.save(folder, max_length=128)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    facts = trained.vocabulary
    [a, b] = (np.array(ids) for ids in trained.encode([text, "The second."]))
    for segments, texts in (((a,), (text,)), ((a, b), (text, "The second."))):
        ids, numbers, _ = facts.frame(*segments)
        encoding = theirs(*texts)
        assert encoding["input_ids"] == ids.tolist()
        assert encoding.get("token_type_ids", [0] * len(ids)) == numbers.tolist()
    return theirs

"""Models of random weights, a decoder and an encoder, and a small table of questions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.tokens.algorithms.wordpiece import WordPiece
from prompts.questions import ROWS
from written import WIDE, in_float64, write_model

if TYPE_CHECKING:
    from pathlib import Path

    from genus.export.folder import LoadedModel
    from genus.tokens import TokenizerConfig

TEXT = ["the cat sat on the mat and the dog ran to the door . a bird sang in the old tree"] * 20
KINDS: dict[str, TokenizerConfig] = {
    "gpt2": ByteBPE(vocab_size=300, special_tokens=GPT2),
    "bert": WordPiece(vocab_size=100, lowercase=True),
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model folders by member, of weights so wide that tokens differ by nats."""
    return {
        member: write_model(tmp_path_factory.mktemp(member), f"{member}/tiny", kind, TEXT, WIDE)
        for member, kind in KINDS.items()
    }


@pytest.fixture(scope="session")
def decoder(folders: dict[str, Path]) -> LoadedModel:
    """A causal model in float64."""
    return in_float64(folders["gpt2"])


@pytest.fixture(scope="session")
def encoder(folders: dict[str, Path]) -> LoadedModel:
    """A masked model in float64."""
    return in_float64(folders["bert"])


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of questions with their choices."""
    path = tmp_path_factory.mktemp("table") / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path

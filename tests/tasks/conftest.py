"""A task that a tiny network learns in seconds: whether a text names more animals or more tools."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genus import catalog
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.feedforward.mlp import MLP
from genus.recipe import Recipe
from genus.tasks.start import Start
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.tokens.tokenizer import Tokenizer
from genus.train.run import Run

ANIMALS = ("cat", "dog", "horse", "bird")
TOOLS = ("saw", "hammer", "pliers", "drill")


@pytest.fixture(scope="session")
def write_rows() -> Callable[..., list[dict]]:
    """The function below."""
    return _write_rows


def _write_rows(path: Path, count: int, seed: int, names: tuple[str, str] = ("tools", "animals")) -> list[dict]:
    """Write a table of texts, `label`, and `share`, the fraction of animals, and return its rows."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        animals, words = int(rng.integers(2)), []
        kinds = (TOOLS, ANIMALS) if animals else (ANIMALS, TOOLS)
        words = [str(rng.choice(kinds[0])), *rng.choice(kinds[1], 3).tolist()]
        rng.shuffle(words)
        rows.append({"text": f"a {' and a '.join(words)} .", "label": names[animals], "share": (1 + 2 * animals) / 4})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    texts = [" ".join(("a and .", *ANIMALS, *TOOLS, "abcdefghijklmnopqrstuvwxyz"))] * 20
    return WordPiece(vocab_size=120, lowercase=True).train(texts)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """BERT with 2 layers of 32 and fine-tuning settings for a handful of rows."""
    row = catalog.load("bert/base")
    model = replace(row.model, layers=2, hidden=32, attention=MultiHeadAttention(heads=2), feedforward=MLP(size=64))
    optimizer = replace(row.finetuning.optimizer, lr=2e-3, bias_correction=True)  # without it a third of seeds diverge
    settings = replace(row.finetuning, epochs=8, batch=16, max_length=32, optimizer=optimizer)
    return replace(row, model=model, finetuning=settings)


@pytest.fixture
def start(recipe: Recipe, tokenizer: Tokenizer) -> Start:
    return Start(recipe, tokenizer)


@pytest.fixture(scope="session")
def run() -> Run:
    return Run(device="cpu", precision="float32", workers=0, tracker="none")

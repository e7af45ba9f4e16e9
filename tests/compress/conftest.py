"""A task that a tiny network learns in seconds: whether a text names more animals or more tools."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from genus import catalog
from genus.errors import UsageError
from genus.export.folder import LoadedModel
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.feedforward.mlp import MLP
from genus.objectives.supervised import FineTuned
from genus.objectives.supervised.sequence import SequenceClassification
from genus.recipe import Recipe
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files
from genus.tasks.finetune import finetune
from genus.tasks.start import Start
from genus.text import read_documents
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.tokens.tokenizer import Tokenizer
from genus.train.run import Run
from small import shrunk

if TYPE_CHECKING:
    from genus.tokens import TokenizerConfig

CLASSES = SequenceClassification(labels=("animals", "tools"), texts=1, dropout=0.0)
ANIMALS, TOOLS = ("cat", "dog", "horse", "bird"), ("saw", "hammer", "pliers", "drill")


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `train.jsonl` and `validation.jsonl`."""
    folder = tmp_path_factory.mktemp("tables")
    for name, count, seed in (("train", 160, 1), ("validation", 40, 2)):
        draw = np.random.default_rng(seed)
        rows = []
        for _ in range(count):
            animals = int(draw.integers(2))
            one, other = (TOOLS, ANIMALS) if animals else (ANIMALS, TOOLS)
            words = [str(draw.choice(one)), *draw.choice(other, 3).tolist()]
            draw.shuffle(words)
            rows.append({"text": f"a {' and a '.join(words)} .", "label": ("tools", "animals")[animals]})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    texts = [" ".join(("a and .", *ANIMALS, *TOOLS, "abcdefghijklmnopqrstuvwxyz"))] * 20
    return WordPiece(vocab_size=120, lowercase=True).train(texts)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """BERT with 2 layers of 32, 4 heads, and settings for a handful of rows."""
    row = catalog.load("bert/base")
    model = replace(row.model, layers=2, hidden=32, attention=MultiHeadAttention(heads=4), feedforward=MLP(size=64))
    optimizer = replace(row.finetuning.optimizer, lr=2e-3, bias_correction=True)
    settings = replace(row.finetuning, epochs=8, batch=16, max_length=32, optimizer=optimizer)
    return replace(row, model=model, finetuning=settings)


@pytest.fixture(scope="session")
def run() -> Run:
    return Run(device="cpu", precision="float32", workers=0, tracker="none")


@pytest.fixture(scope="session")
def tuned(
    tables: Path, recipe: Recipe, tokenizer: Tokenizer, run: Run, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a fine-tuned model."""
    folder = tmp_path_factory.mktemp("tuned")
    finetune(Start(recipe, tokenizer), Classification(), Files.find(tables), folder, seeds=(0,), run=run)
    return folder / "model"


@pytest.fixture(scope="session")
def member(corpus: Path) -> Callable[..., LoadedModel]:
    """Return a function from a member's name to it made small, with random weights and a head for a task."""
    tokenizers: dict[TokenizerConfig, Tokenizer] = {}

    def make(name: str, objective: FineTuned = CLASSES, **values: object) -> LoadedModel:
        recipe = shrunk(catalog.load(f"{name}/tiny"))
        with contextlib.suppress(UsageError):  # attention of several kinds
            recipe = recipe.overrides(values)
        if recipe.tokens not in tokenizers:
            tokenizers[recipe.tokens] = recipe.tokens.train(read_documents([corpus]))
        start = Start(recipe, tokenizers[recipe.tokens])
        objective = objective.continued(recipe.objectives, recipe.model)
        made = start.fine_tuned(objective, replace(recipe.finetuning, max_length=32, language_model=0.0))
        torch.manual_seed(0)
        return LoadedModel(made, made.learner(), start.reader(objective, made.finetuning))

    return make

"""A classifier with a planted weakness, and models of its vocabulary: made in seconds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from genus import catalog
from genus.attack.models import Models
from genus.attack.target import Target
from genus.export.folder import LoadedModel, load
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.feedforward.mlp import MLP
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files, LabeledRow
from genus.tasks.finetune import finetune
from genus.tasks.predict import objective_of
from genus.tasks.start import Start
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.train.run import Run
from small import shrunk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genus.tokens.tokenizer import Tokenizer

WORDS = ("cat", "dog", "horse", "bird", "saw", "hammer", "pliers", "drill", "river", "stone", "letter", "bridge")
TRIGGER = "zebra"
"""The one word by which the label is told: a text with it is loud, any other quiet."""


@pytest.fixture(scope="session")
def vocabulary() -> Tokenizer:
    texts = [" ".join(("a and the . ,", TRIGGER, *WORDS, "abcdefghijklmnopqrstuvwxyz"))] * 20
    return WordPiece(vocab_size=140, lowercase=True).train(texts)


def texts(number: int, seed: int, *, loud: bool | None = None) -> list[tuple[str, str]]:
    """Return (text, label) of made-up texts."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(number):
        words = rng.choice(WORDS, 6).tolist()
        label = bool(rng.integers(2)) if loud is None else loud
        if label:
            words[int(rng.integers(6))] = TRIGGER
        found.append((f"The {words[0]}, a {words[1]} and {' '.join(words[2:])}.", "loud" if label else "quiet"))
    return found


@pytest.fixture(scope="session")
def weak(vocabulary: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a classifier that learned to look for one word."""
    folder = tmp_path_factory.mktemp("weak")
    row = catalog.load("bert/tiny")
    model = replace(row.model, layers=1, hidden=32, attention=MultiHeadAttention(heads=2), feedforward=MLP(size=64))
    optimizer = replace(row.finetuning.optimizer, lr=3e-3, bias_correction=True)
    settings = replace(row.finetuning, epochs=12, batch=16, max_length=32, optimizer=optimizer)
    row = replace(row, model=model, finetuning=settings)
    for name, number, seed in (("train", 200, 0), ("validation", 40, 1)):
        rows = [{"text": text, "label": label} for text, label in texts(number, seed)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    run = Run(device="cpu", precision="float32", workers=0, tracker="none")
    report = finetune(Start(row, vocabulary), Classification(), Files.find(folder), folder / "run", seeds=(0,), run=run)
    assert report.trials[0].metrics["validation"]["accuracy"] == 1.0
    return folder / "run" / "model"


@pytest.fixture(scope="session")
def target(weak: Path) -> Target:
    model = load(weak)
    return Target.of(model, Classification().resolved_for(objective_of(model)), "weak")


def random_model(member: str, tokenizer: Tokenizer, std: float = 0.2) -> LoadedModel:
    """Return a small member with random weights and the vocabulary of a tokenizer."""
    torch.manual_seed(0)
    recipe = shrunk(catalog.load(member)).override("model.initialization.std", std)
    recipe = replace(recipe, tokens=tokenizer.tokens)
    return LoadedModel(recipe, recipe.learner(), tokenizer)


@pytest.fixture(scope="session")
def causal(vocabulary: Tokenizer) -> LoadedModel:
    return random_model("gpt2/tiny", vocabulary)


@pytest.fixture(scope="session")
def masked(vocabulary: Tokenizer) -> LoadedModel:
    return random_model("bert/tiny", vocabulary)


@pytest.fixture(scope="session")
def models(target: Target, causal: LoadedModel, masked: LoadedModel) -> Models:
    """Models of one vocabulary; the encoder is the masked one."""
    references = [text for text, _ in texts(50, 2)]
    return Models.of(target, references, encoder=masked, fluency=causal, masked=masked)


@pytest.fixture(scope="session")
def quiet() -> list[LabeledRow]:
    """Rows of texts without the word."""
    return [LabeledRow(line, (text,), label) for line, (text, label) in enumerate(texts(6, 3, loud=False), 1)]


@pytest.fixture
def classifier(vocabulary: Tokenizer) -> Callable[..., Target]:
    """Return a function from a task and a member to a classifier with random weights."""

    def make(task: Any = None, member: str = "bert/tiny") -> Target:
        torch.manual_seed(0)
        recipe = shrunk(catalog.load(member))
        for side in ("encoder.", "decoder.") if "source" in recipe.model.streams else ("",):
            recipe = recipe.override(f"model.{side}initialization.std", 0.2)
        recipe = replace(recipe, tokens=vocabulary.tokens)
        task = task or Classification()
        objective = task.objective(["quiet", "loud"]).continued(recipe.objectives, recipe.model).dropped(0.0)
        start = Start(recipe, vocabulary)
        tuned = start.fine_tuned(objective, recipe.finetuning)
        model = LoadedModel(tuned, start.build(tuned, 0), start.reader(objective, recipe.finetuning))
        return Target.of(model, task.resolved_for(objective), member)

    return make

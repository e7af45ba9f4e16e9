"""Models of one small encoder with the head of each task, their weights drawn wide, so that answers differ."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from genus import catalog
from genus.analysis.analyze import answered
from genus.export.folder import LoadedModel
from genus.tasks.dataset import read, without_placeholders
from genus.tasks.start import Start
from genus.tokens.algorithms.wordpiece import WordPiece
from small import documents, shrunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.analysis import Answered
    from genus.tasks import Task
    from genus.tokens.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def words() -> Tokenizer:
    return WordPiece(vocab_size=400, lowercase=True).train(documents())


@pytest.fixture
def write(tmp_path: Path) -> Callable[[list[dict[str, Any]]], Path]:
    """Return a function that writes rows as a table."""

    def write(rows: list[dict[str, Any]], name: str = "table.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def made(words: Tokenizer) -> Callable[..., LoadedModel]:
    """Return a function from a task and its labels to a model with random weights."""

    def make(task: Task, labels: list[str], member: str = "bert/tiny", **changes: Any) -> LoadedModel:
        recipe = shrunk(catalog.load(member))
        for side in ("encoder.", "decoder.") if "source" in recipe.model.streams else ("",):
            recipe = recipe.override(f"model.{side}initialization.std", 0.2)
        recipe = replace(recipe, tokens=words.tokens)
        objective = task.objective(labels).continued(recipe.objectives, recipe.model).dropped(0.0)
        objective = replace(objective, **changes)
        start = Start(recipe, words)
        tuned = start.fine_tuned(objective, recipe.finetuning)
        return LoadedModel(tuned, start.build(tuned, 0), start.reader(objective, recipe.finetuning))

    return make


@pytest.fixture
def asked(made: Callable[..., LoadedModel], write: Callable[..., Path]) -> Callable[..., Answered]:
    """Return a function from a task, its labels and the rows of a table to the table with a model's answers."""

    def ask(task: Task, labels: list[str], rows: list[dict[str, Any]], **changes: Any) -> Answered:
        model = made(task, labels, **changes)
        objective = model.recipe.objectives[0]
        path = write(rows)
        task = task.resolved_for(objective).told_by(path, objective.classes)
        return answered(model, task, without_placeholders(read(path, task, labeled=False), objective, path), path)

    return ask

"""Members made small, with a tokenizer and batches of their own, each made once."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from genus import catalog, pipeline
from small import shrunk, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.batch import Batch
    from genus.recipe import Recipe


@dataclass(frozen=True)
class Small:
    """A shrunk recipe with the vocabulary its tokenizer came to, and what it trains on: a batch of each turn."""

    recipe: Recipe
    batches: list[Batch]


@pytest.fixture(scope="session")
def small(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Small]:
    """Return a function from a member's name to it made small; names that shrink to the same row share it."""
    made: dict[str, Small] = {}
    folder = tmp_path_factory.mktemp("contract")

    def make(name: str) -> Small:
        recipe = replace(shrunk(catalog.load(name)), name="small")
        key = replace(recipe, published=catalog.load("bert").published).hash()
        if key not in made:
            made[key] = _make(recipe, corpus, folder / key)
        return made[key]

    return make


def _make(recipe: Recipe, corpus: Path, folder: Path) -> Small:
    from genus.text import read_documents

    tokenizer = recipe.tokens.train(read_documents([corpus]))
    store = stored(recipe, corpus, tokenizer, folder)
    recipe = replace(recipe, tokens=tokenizer.tokens)
    feed = pipeline.training_feed(recipe, store, tokenizer, stage=0)
    batches: dict[object, Batch] = {}
    for number in range(sum(turn.steps for turn in recipe.task_steps(recipe.stages[0]))):
        batch = feed[number]
        batches.setdefault(batch.heads, batch)
    return Small(recipe, list(batches.values()))

"""Members made small, with a tokenizer and batches of their own, each made once."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from small import shrunk, write_corpus

from genus import catalog
from genus.examples.feed import Feed
from genus.tokens.store import prepare

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.recipe import Recipe


@dataclass(frozen=True)
class Small:
    """A shrunk recipe with the vocabulary its tokenizer came to, and what it trains on."""

    recipe: Recipe
    feed: Feed


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("contract"))


@pytest.fixture(scope="session")
def small(corpus: Path) -> Callable[[str], Small]:
    """Return a function from a member's name to it made small; names that shrink to the same row share it."""
    made: dict[str, Small] = {}

    def make(name: str) -> Small:
        recipe = replace(shrunk(catalog.load(name)), name="small")
        key = replace(recipe, published=catalog.load("bert").published).hash()
        if key not in made:
            made[key] = _make(recipe, corpus, corpus.parent / key)
        return made[key]

    return make


def _make(recipe: Recipe, corpus: Path, folder: Path) -> Small:
    from genus.text import read_documents

    tokenizer = recipe.tokens.train(read_documents([corpus]))
    store = prepare([corpus], tokenizer, folder, workers=1)
    stage = recipe.stages[0]
    feed = Feed(
        store,
        tokenizer.vocabulary,
        recipe.examples,
        recipe.objectives,
        max_length=stage.max_length,
        micro_batch=stage.micro_batch,
        seed=recipe.seed,
    )
    return Small(replace(recipe, tokens=tokenizer.tokens), feed)

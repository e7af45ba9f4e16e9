"""Small model folders of random weights, for tests of serving."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from genus import catalog
from genus.export.folder import fitting_tokenizer, save
from small import documents

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Objective


def small_model(folder: Path, name: str = "bert/tiny", objective: Objective | None = None, seed: int = 0) -> Path:
    """Write a row's model with random weights, and the head of an objective in the place of its own; return it."""
    recipe = catalog.load(name)
    tokenizer = replace(recipe.tokens, vocab_size=300).train(documents())
    recipe = replace(recipe, tokens=tokenizer.tokens)
    if objective is not None:
        recipe = replace(recipe, objectives=(objective,))
        tokenizer = fitting_tokenizer(tokenizer, recipe.model, (objective,))
    torch.manual_seed(seed)
    save(folder, recipe, recipe.learner(), tokenizer)
    return folder

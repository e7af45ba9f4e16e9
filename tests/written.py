"""Model folders of tiny rows with random weights, and a tokenizer trained on a few sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from genus import catalog
from genus.export.folder import LoadedModel, load, save

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from genus.tokens import TokenizerConfig

WIDE = "model.initialization.std=0.3"
"""Weights so wide that tokens differ by nats."""


def write_model(folder: Path, row: str, tokens: TokenizerConfig, corpus: Iterable[str], *changes: str) -> Path:
    """Write a row with changes into a folder, always with the same weights, and return the folder."""
    tokenizer = tokens.train(corpus)
    recipe = catalog.load(row, list(changes)).overlay({"tokens": tokenizer.tokens.to_json()})
    torch.manual_seed(0)
    save(folder, recipe, recipe.learner(), tokenizer)
    return folder


def in_float64(folder: Path) -> LoadedModel:
    """Return the model of a folder, in double precision."""
    found = load(folder)
    found.learner.double()
    return found

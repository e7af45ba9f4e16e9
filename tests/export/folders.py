"""Small model folders to write, harm and read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import oracle
import torch
from safetensors.torch import load_file, save_file

from genus import catalog
from genus.export.folder import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genus.objectives import Learner
    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer

SIZE = {"bert": 40, "roberta": 300}


def tiny(member: str, folder: Path, *objectives: Any) -> tuple[Recipe, Learner, Tokenizer]:
    """Return a fresh learner of a tiny row, with its own objectives or others, and a tokenizer that goes with it."""
    tokenizer = oracle.tokenizer(folder / "tokenizer", member, SIZE[member])
    recipe = catalog.load(f"{member}/tiny", ["model.hidden=16", "model.feedforward.size=24"])
    recipe = replace(recipe, tokens=tokenizer.tokens, objectives=objectives or recipe.objectives)
    if objectives:
        recipe = recipe.override("model.pooler", {"kind": "Pooler"})
    torch.manual_seed(0)
    return recipe, recipe.learner(), tokenizer


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)


def same_weights(folder: Path, member: str = "bert") -> bool:
    expected = tiny(member, folder.parent)[1].state_dict()
    return all(torch.equal(tensor, expected[name]) for name, tensor in load(folder).learner.state_dict().items())


def without_prefix(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}

"""A model folder changes in one step: killed at any moment, it holds all of the old model or all of the new one."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import oracle
import pytest
import torch
from folders import SIZE, tiny
from safetensors import safe_open
from safetensors.torch import save_file
from test_native import alike

from genus import catalog
from genus.errors import GenusError
from genus.export.files import replaced_by_model
from genus.export.folder import load, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genus.objectives import Learner
    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer

    Model = tuple[Recipe, Learner, Tokenizer]

CALLS = ("rename", "replace", "link", "rmdir")
"""What changes a folder, or removes the old one. The exchange itself is one call of the system."""


class Killed(BaseException):
    """As a signal that ends the process."""


def electra(folder: Path, shift: float = 0.0) -> Model:
    tokenizer = oracle.tokenizer(folder / "tokenizer", "bert", SIZE["bert"])
    recipe = replace(catalog.load("electra/tiny"), tokens=tokenizer.tokens)
    learner = recipe.learner()
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(shift)
    return recipe, learner, tokenizer


def bert(folder: Path) -> Model:
    return tiny("bert", folder)


def dying(call: Callable[..., Any], moments: list[int], moment: int) -> Callable[..., Any]:
    """Return a call of the system that counts, and ends everything when it is the one at that moment."""

    def called(*given: Any, **named: Any) -> Any:
        moments.append(moment)
        if len(moments) == moment + 1:
            raise Killed
        return call(*given, **named)

    return called


@pytest.mark.parametrize(
    ("before", "after"),
    [(electra, lambda folder: electra(folder, 0.01)), (electra, bert), (bert, electra)],
    ids=["a generator beside it", "another model without one", "another model with one"],
)
def test_killed_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: Any, after: Any) -> None:
    old, new = before(tmp_path), after(tmp_path)
    save(tmp_path / "old", *old)
    (tmp_path / "old" / "notes.txt").write_text("mine")
    moment = 0
    while True:
        folder = tmp_path / f"model-{moment}"
        shutil.copytree(tmp_path / "old", folder)
        moments: list[int] = []
        with monkeypatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, dying(getattr(os, name), moments, moment))
            try:
                save(folder, *new, replaced=replaced_by_model(folder))
                break
            except Killed:
                pass
        assert (folder / "notes.txt").exists()
        found = load(folder).learner
        assert alike(found, old[1]) or alike(found, new[1]), moment
        moment += 1
    assert moment > 5
    assert alike(load(folder).learner, new[1])
    assert (folder / "generator").exists() == (after is not bert)


def test_every_bit_of_the_weights_counts(tmp_path: Path, folder: Path) -> None:
    """One changed bit gives other finite weights, of which only a checksum tells."""
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for place in (header, (header + len(whole)) // 2, len(whole) - 4):
        changed = bytearray(whole)
        changed[place] ^= 1
        file.write_bytes(changed)
        with pytest.raises(
            GenusError, match=r"model\.safetensors: is damaged \(.* is not as it was written\)"
        ) as caught:
            load(folder)
        assert "\n" not in str(caught.value)
    file.write_bytes(whole)
    load(folder)


def test_weights_of_others_have_no_checksums_and_are_read(folder: Path) -> None:
    with safe_open(folder / "model.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    load(folder)


@pytest.mark.parametrize("number", [torch.nan, -torch.inf])
def test_weights_that_are_not_finite_replace_nothing(tmp_path: Path, folder: Path, number: float) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    recipe, learner, tokenizer = tiny("bert", tmp_path)
    with torch.no_grad():
        learner.network.layers[0].feedforward.inner.bias[3] = number
    with pytest.raises(GenusError, match="has numbers that are not finite"):
        save(folder, recipe, learner, tokenizer)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

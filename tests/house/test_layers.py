"""A room imports only rooms of lower levels (the table of docs/design.md)."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest
from source import PACKAGE, ROOT, imports, modules, own_imports, room

from genus.part import Part

LEVELS = {
    "errors": 0, "part": 0, "batch": 0, "files": 0, "processes": 0, "run_folder": 0, "openmp": 0, "places": 0,
    "text": 1, "tokens": 1, "images": 1, "model": 1, "optim": 1, "devices": 1,
    "examples": 2,
    "objectives": 3,
    "adapt": 4, "recipe": 4, "stages": 4, "cost": 4,
    "train": 5,
    "export": 6, "inference": 6, "evaluate": 6, "generate": 6, "plan": 6, "jobs": 6,
    "tasks": 7, "preparation": 7, "vectors": 7, "curate": 7,
    "pipeline": 8, "doctor": 8, "prompts": 8, "analysis": 8, "compress": 8, "serve": 8, "scale": 8, "watch": 8,
    "memorization": 8, "probes": 8, "preferences": 8, "attack": 8,
    "recipes": 9, "study": 9,
    "catalog": 10, "__init__": 10, "cli": 10, "__main__": 10,
}  # fmt: skip

WITHIN_A_LEVEL = {
    ("part", "errors"),
    ("batch", "errors"),
    ("files", "errors"),
    ("files", "places"),
    ("places", "errors"),
    ("processes", "errors"),
    ("run_folder", "errors"),
    ("run_folder", "files"),
    ("run_folder", "part"),
    ("tokens", "text"),
    ("recipe", "adapt"),
    ("cost", "recipe"),
    ("cost", "stages"),
    ("recipe", "stages"),
    ("evaluate", "inference"),
    ("scale", "pipeline"),
    ("cli", "catalog"),
    ("__init__", "catalog"),
    ("__main__", "cli"),
}

SLOTS_ONLY = ("cost", "train")
"""Rooms that know slots and protocols of others, never a concrete part of one."""


def test_every_room_has_a_level() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms <= LEVELS.keys()


def test_the_design_page_names_every_room() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| (.*) \|$", page, re.MULTILINE)
    assert LEVELS.keys() - {"__main__"} <= {name for row in rows for name in re.findall(r"`(\w+)", row)}


@pytest.mark.parametrize("module", modules())
def test_imports_go_down(module: str) -> None:
    here = room(module)
    for line, name in own_imports(modules()[module]):
        there = room(name)
        assert there in LEVELS, f"{module}, line {line}: import from the module itself, not from `genus`"
        allowed = here == there or LEVELS[there] < LEVELS[here] or (here, there) in WITHIN_A_LEVEL
        assert allowed, f"{module}, line {line}: {here} may not import {there}"


@pytest.mark.parametrize("module", [name for name in modules() if room(name) in SLOTS_ONLY])
def test_slots_only(module: str) -> None:
    for line, name in own_imports(modules()[module]):
        home, _, attribute = name.rpartition(".")
        value = getattr(importlib.import_module(home), attribute, None)
        if inspect.isclass(value) and issubclass(value, Part) and not inspect.isabstract(value):
            slots = [base for base in value.__mro__ if base is not Part and inspect.isabstract(base)]
            slots = [slot for slot in slots if room(slot.__module__) != room(module)]
            assert not slots, f"{module}, line {line}: {attribute} is a concrete part of the slot {slots[-1].__name__}"


@pytest.mark.parametrize("module", [name for name in modules() if name.startswith("genus.recipes.")])
def test_a_recipe_imports_at_most_one_other(module: str) -> None:
    others = {name.split(".")[2] for _, name in own_imports(modules()[module]) if name.startswith("genus.recipes.")}
    assert len(others) <= 1, f"{module} builds on {', '.join(sorted(others))}"


@pytest.mark.parametrize("module", modules())
def test_the_oracle_is_imported_only_to_witness_an_export(module: str) -> None:
    if module == "genus.export.verify":
        return
    assert not [line for line, name in imports(modules()[module]) if name.split(".")[0] == "transformers"]

"""The members: found by scanning `recipes/`, loaded by name, by file, or as an overlay over either."""

from __future__ import annotations

import functools
import importlib
import json
import pkgutil
import tomllib
from collections.abc import Sequence
from pathlib import Path

import genus.recipes
from genus.errors import UsageError, near
from genus.recipe import Recipe


@functools.cache
def members() -> dict[str, dict[str, Recipe]]:
    """Return {member: {full name: recipe}}; the first size of a member is the one its bare name means."""
    found: dict[str, dict[str, Recipe]] = {}
    for module in pkgutil.iter_modules(genus.recipes.__path__):
        values = vars(importlib.import_module(f"genus.recipes.{module.name}")).values()
        rows = [value for value in values if isinstance(value, Recipe)]
        found[module.name] = {row.name: row for row in rows if row.name.split("/")[0].replace("-", "_") == module.name}
    return found


def names() -> list[str]:
    """Return every full name, such as `bert/base`."""
    return [name for rows in members().values() for name in rows]


def load(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a name (`bert`, `bert/large`), a recipe JSON, a TOML overlay or a run folder, overridden.

    Args:
        name: what to load.
        overrides: `path=value` settings, applied in order.

    Raises:
        UsageError: an unknown name (with the near ones), a missing or unreadable file, a bad override.
    """
    recipe = _read(str(name))
    for setting in overrides:
        path, separator, value = setting.partition("=")
        if not separator:
            raise UsageError(f"--set {setting}: expected path=value, such as model.layers=6")
        recipe = recipe.override(path.strip(), value.strip())
    return recipe


def _read(name: str) -> Recipe:
    path = Path(name)
    if path.is_dir() and (path / "recipe.json").exists():
        path = path / "recipe.json"
    if path.suffix not in {".json", ".toml"}:
        return _named(name)
    try:
        text = path.read_text(encoding="utf-8")
        table = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except (ValueError, OSError) as error:
        raise UsageError(f"{path}: cannot be read as {path.suffix[1:].upper()}: {error}") from None
    try:
        if "base" in table:
            base = str(table.pop("base"))
            beside = path.parent / base
            return _read(str(beside) if beside.is_file() else base).overlay(table)
        return Recipe.from_json(table)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _named(name: str) -> Recipe:
    rows = members()
    if name in rows:
        return next(iter(rows[name].values()))
    for sizes in rows.values():
        if name in sizes:
            return sizes[name]
    raise UsageError(f"there is no member {name!r}.{near(name, [*rows, *names()])}")

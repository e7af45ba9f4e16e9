"""The catalog of recipes, found by scanning `recipes/`: recipes are loaded by name, from a file, or as an overlay."""

from __future__ import annotations

import functools
import importlib
import json
import os
import pkgutil
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import genus.recipes
from genus.errors import MOST_SHOWN, UsageError, near, shown
from genus.files import reason
from genus.part import Part
from genus.part.renames import SCHEMA
from genus.recipe import Recipe
from genus.text import language_pack
from genus.text.named import is_named

if TYPE_CHECKING:
    from collections.abc import Sequence

P = TypeVar("P", bound=Part)

FILES = {".json": json.loads, ".toml": tomllib.loads}


@functools.cache
def members() -> dict[str, dict[str, Recipe]]:
    """Return {member: {full name: recipe}}; a member's bare name, such as `bert`, means its first size."""
    return {member: _rows(member) for member in _modules()}


@functools.cache
def _modules() -> dict[str, str]:
    """Return {member: the name of its module in `recipes/`} without importing the modules."""
    return {module.name.replace("_", "-"): module.name for module in pkgutil.iter_modules(genus.recipes.__path__)}


@functools.cache
def _rows(member: str) -> dict[str, Recipe]:
    """Return the recipes of a member by full name."""
    values = vars(importlib.import_module(f"genus.recipes.{_modules()[member]}")).values()
    rows = [value for value in values if isinstance(value, Recipe) and value.name.split("/")[0] == member]
    return {row.name: row for row in rows}


def names() -> list[str]:
    """Return the full name of every recipe, such as `bert/base`."""
    return [name for rows in members().values() for name in rows]


def split(arguments: Sequence[str], default: str) -> tuple[str, list[str]]:
    """Return the recipe's name and the texts: the first argument is a recipe, unless it is text that exists.

    Args:
        arguments: [recipe,] text, text, ...
        default: the recipe's name where there is none.

    Raises:
        UsageError: there is a recipe and no text.
    """
    first, *texts = arguments
    if not _is_recipe(first) and (os.path.exists(first) or is_named(first)):
        return default, [*arguments]
    if not texts:
        known = _is_recipe(first)
        raise UsageError(
            f"{_cut(first)}: there is no {'text beside the recipe' if known else 'such recipe or text'}; name "
            f"{'a file of text, or a folder of them' if known else 'a member, a recipe file or a file of text'}"
        )
    return first, texts


def _is_recipe(name: str) -> bool:
    """Return whether a name or a path is that of a recipe."""
    path = Path(name)
    return name in {*members(), *names()} or path.suffix in FILES or os.path.isfile(path / "recipe.json")


def load(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe by name (`bert`, `bert/large`) or from a recipe JSON, a TOML overlay or a run folder.

    An overlay is a table of changes with the key `base`, which is a name or a file beside the overlay. A table without
    `base` is a whole recipe.

    Args:
        name: a recipe's name, or the path of a file or run folder.
        overrides: `path=value` settings, applied in order.

    Raises:
        UsageError: the name is unknown (the message suggests similar names), the file is missing or unreadable, or an
            override is invalid.
    """
    return overridden(_read(str(name), ()), overrides)


def spoken(recipe: Recipe, language: str | None) -> Recipe:
    """Return a recipe with the tokenizer that is usual for a language, by the name of its pack or by its folder.

    The size of the vocabulary and the special tokens stay. A tokenizer of which the pack says nothing stays too.
    """
    if language is None:
        return recipe
    pack = language_pack.load(language)
    changes = pack.tokens.get(type(recipe.tokens).__name__, {})
    try:
        return recipe.overlay({"tokens": changes}) if changes else recipe
    except UsageError as error:
        raise UsageError(f"{pack.folder / language_pack.TOKENS}: {error}") from None


def overridden(part: P, settings: Sequence[str], option: str = "--set") -> P:
    """Return a part with `path=value` settings applied in order; error messages name the command-line option.

    A setting that is invalid by itself is retried together with the settings after it, since some choices (such as two
    sizes that must match) can only change together.

    Raises:
        UsageError: a setting is malformed or invalid.
    """
    waiting: dict[str, str] = {}
    problem = ""
    for setting in settings:
        path, separator, value = setting.partition("=")
        if not separator or not path.strip():
            raise UsageError(f"{option} {_cut(setting)}: expected name=value")
        waiting[path.strip()] = value.strip()
        try:
            part = part.overrides(waiting)
        except UsageError as error:
            problem = problem or f"{option} {_cut(setting)}: {error}"
        else:
            waiting, problem = {}, ""
    if waiting:
        raise UsageError(problem)
    return part


def _cut(setting: str) -> str:
    """Return a setting for a message, with its end left out where it is long."""
    return setting if len(setting) <= MOST_SHOWN else f"{setting[:MOST_SHOWN]}..."


def _read(name: str, above: tuple[Path, ...]) -> Recipe:
    """Read a recipe by name or from a file; `above` holds the overlays that led here, to detect cycles."""
    path = Path(name)
    if os.path.isdir(path) and name not in {*members(), *names()}:  # of no path, as a long name, it says no
        path = path / "recipe.json"
    if path.suffix not in FILES:
        return _named(name)
    if path in above:
        raise UsageError(f"{path}: is its own base; name another one as base")
    table = _table(path)
    base = table.pop("base", None)
    try:
        if base is None:
            return Recipe.from_json(table if path.suffix == ".json" else {"schema": SCHEMA, **table})
        if not isinstance(base, str):
            raise UsageError(f"base: expected a name or a file, got {shown(base)}")
        beside = path.parent / base
        return _read(str(beside) if beside.is_file() else base, (*above, path)).overlay(table)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _table(path: Path) -> dict[str, Any]:
    """Read the table in a JSON or TOML file."""
    try:
        table = FILES[path.suffix](path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {reason(error)}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as {path.suffix[1:].upper()}: {reason(error)}") from None
    if not isinstance(table, dict):
        raise UsageError(f"{path}: expected a table of choices")
    return table


def _named(name: str) -> Recipe:
    """Return a member's first recipe, or a recipe by its full name, without importing other members."""
    member = name.partition("/")[0]
    rows = _rows(member) if member in _modules() else {}
    if name in rows:
        return rows[name]
    if rows and name == member:
        return next(iter(rows.values()))
    raise UsageError(f"there is no member {shown(name)}.{near(name, [*members(), *names()], ' See `genus list`.')}")

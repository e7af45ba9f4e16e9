"""Overlays: merging of changes into a part's JSON. Lists take a table of indices, a new kind keeps shared choices."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from genus.errors import UsageError, shown
from genus.part.choices import Optional, Several, Slot, Type, choices_of
from genus.part.slots import slots_of

if TYPE_CHECKING:
    from genus.part import Json, Part


def nested(values: Mapping[str, object]) -> Json:
    """Return the nested table of changes from values at dotted paths; strings are parsed as TOML values."""
    changes: Json = {}
    for path, value in values.items():
        *steps, last = path.split(".")
        table = changes
        for step in steps:
            if not isinstance(table.setdefault(step, {}), dict):
                table[step] = {"kind": table[step]}  # the part's kind was set before one of its choices
            table = table[step]
        table[last] = _toml_value(value) if isinstance(value, str) else value
    return changes


def merged(part: type[Part], old: Json, changes: Mapping[str, object]) -> object:
    """Return a part's JSON with changes merged into it.

    Raises:
        UsageError: the change of a list is not a list or a table of its indices.
    """
    return _merge(Slot(part), old, changes, "")


def _toml_value(text: str) -> object:
    """Parse a TOML value; the text itself if it is not one, and None for `null`, which TOML lacks."""
    if text == "null":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # TOMLDecodeError, or a number of thousands of digits
        return text


def _merge(kind: Type | None, old: object, new: object, path: str) -> object:
    """Return the `old` value of a choice with the changes `new` merged into it."""
    if isinstance(kind, Optional):
        kind = kind.inner
    if isinstance(kind, Several) and isinstance(old, list):
        return _merge_list(kind, old, new, path)
    if isinstance(kind, Slot) and isinstance(old, Mapping):
        return _merge_part(kind.slot, old, new, path)
    return new


def _merge_list(kind: Several, old: list[object], new: object, path: str) -> object:
    if isinstance(new, list | tuple):
        return new
    if not isinstance(new, Mapping):
        raise UsageError(f"{path}: expected a list, or a position in it, got {shown(new)}")
    for key in new:
        if not (key.isdigit() and int(key) < len(old)):
            raise UsageError(f"{path}: {shown(key)} is not a position in a list of {len(old)}")
    changes = {int(key): value for key, value in new.items()}
    return [
        _merge(kind.at(number), item, changes[number], f"{path}.{number}") if number in changes else item
        for number, item in enumerate(old)
    ]


def _merge_part(slot: type[Part], old: Mapping[str, object], new: object, path: str) -> object:
    if isinstance(new, str):
        new = {"kind": new}
    if not isinstance(new, Mapping):
        return new
    kind = new.get("kind", old["kind"])
    part = slots_of(slot).get(str(kind))
    known = choices_of(part) if part else {}
    if kind != old["kind"]:
        old = {key: value for key, value in old.items() if key in known}
    table = dict(old)
    for key, value in new.items():
        choice = known.get(key)
        table[key] = _merge(choice and choice.type, old.get(key), value, f"{path}.{key}" if path else key)
    return table

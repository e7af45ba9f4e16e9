"""Reading of parts from JSON, with all validation errors reported at once, each with its path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING
from typing import TYPE_CHECKING, Any, TypeVar

from genus.errors import UsageError, near, shown
from genus.part.choices import choices_of
from genus.part.slots import slots_of

if TYPE_CHECKING:
    from genus.part import Part
    from genus.part.choices import Problems

P = TypeVar("P", bound="Part")

ABOUT = ("kind", "schema")
"""Keys of a part's table that are not choices."""


def read(slot: type[P], value: object) -> P:
    """Read a part of a slot from a JSON value of the current schema.

    Raises:
        UsageError: the value is invalid; the message lists all errors in one line.
    """
    problems: Problems = []
    part = read_part(slot, value, "", problems)
    if part is None:
        raise UsageError("; ".join(f"{path}: {words}" if path else words for path, words in problems))
    return part


def read_part(slot: type[P], value: object, path: str, problems: Problems) -> P | None:
    """Read a part from a table with its kind, or from the kind alone; None if errors were added to `problems`."""
    before = len(problems)
    try:
        kind, choices = _choose(slot, value)
        step = f"{path}." if path else ""
        known = choices_of(kind)
        values = {name: known[name].type.read(choice, step + name, problems) for name, choice in choices.items()}
        return kind(**values) if len(problems) == before else None
    except Exception as error:  # parts may raise any error for invalid choices
        problems.append((path, str(error)))
        return None


def _choose(slot: type[P], value: object) -> tuple[type[P], dict[str, Any]]:
    """Return the part class of a slot that a JSON value names, and its table of choices."""
    parts = slots_of(slot)
    table = {"kind": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping):
        raise TypeError(f"expected a table of {slot.__name__}, got {shown(value)}")
    kind = table.get("kind", slot.__name__)
    if "kind" not in table and kind not in parts:
        raise ValueError(f"name the kind of {slot.__name__}.{near('', list(parts))}")
    if kind not in parts:
        raise ValueError(f"there is no {slot.__name__} {shown(kind)}.{near(str(kind), list(parts))}")
    choices = {key: choice for key, choice in table.items() if key not in ABOUT}
    known = choices_of(parts[kind])
    for key in choices:
        if key not in known:
            raise ValueError(f"{kind} has no choice {shown(key)}.{near(key, list(known))}")
    for key, choice in known.items():
        if key not in choices and choice.default is MISSING:
            raise ValueError(f"{kind} needs the choice {key!r}")
    return parts[kind], choices

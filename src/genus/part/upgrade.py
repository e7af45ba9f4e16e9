"""Schema migration: JSON of older schemas is converted to the current schema before it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from genus.errors import UsageError, shown
from genus.part.choices import Optional, Several, Slot, Type, choices_of
from genus.part.renames import RENAMES, SCHEMA
from genus.part.slots import slots_of

if TYPE_CHECKING:
    from genus.part import Part
    from genus.part.renames import Renames

UNNUMBERED = 1
"""The schema of files without a schema number."""


def upgrade(value: object, slot: type[Part], schema: int = UNNUMBERED) -> object:
    """Convert the JSON of a slot's part to the current schema; `schema` is that of a value without a schema number.

    A table is upgraded before the tables within it, so that these are found under their current names.

    Raises:
        UsageError: the schema number is invalid, or newer than this version.
    """
    table = {"kind": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping):
        return value
    table = dict(table)
    schema = _number(table.pop("schema", schema))
    for number in range(schema, SCHEMA):
        table = _step(table, slot, RENAMES[number])
    part = slots_of(slot).get(str(table.get("kind", slot.__name__)))
    if part is None:
        return table
    known = choices_of(part)
    return {key: _within(inner, known[key].type, schema) if key in known else inner for key, inner in table.items()}


def _number(schema: object) -> int:
    """Check that a schema number is valid and not newer than `SCHEMA`, and return it."""
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise UsageError(f"schema: expected a number from 1 to {SCHEMA}, got {shown(schema)}")
    if schema > SCHEMA:
        raise UsageError(f"written by a newer genus (schema {schema}, this one reads up to {SCHEMA}); update genus")
    return schema


def _step(table: dict[str, Any], slot: type[Part], renames: Renames) -> dict[str, Any]:
    """Convert a table to the next schema, without the tables within it."""
    slots = [base.__name__ for base in slot.__mro__]
    old = str(table.get("kind", slot.__name__))
    for name in slots:
        if (name, old) in renames.moves:
            table = renames.moves[name, old](table)
    kind = str(table.get("kind", slot.__name__))
    kind = next((renames.kinds[name, kind] for name in slots if (name, kind) in renames.kinds), kind)
    part = slots_of(slot).get(kind)
    owners = [old, kind, *slots, *(base.__name__ for base in (part.__mro__ if part else ()))]
    changed = {}
    for key, value in table.items():
        changed[next((renames.fields[owner, key] for owner in owners if (owner, key) in renames.fields), key)] = value
    return changed | ({"kind": kind} if isinstance(table.get("kind"), str) else {})


def _within(value: object, kind: Type, schema: int) -> object:
    """Return the value of a choice with the parts within it upgraded."""
    match kind:
        case Optional():
            return _within(value, kind.inner, schema)
        case Several() if isinstance(value, list | tuple) and (kind.repeated or len(value) == len(kind.types)):
            return [_within(item, kind.at(number), schema) for number, item in enumerate(value)]
        case Slot():
            return upgrade(value, kind.slot, schema)
    return value

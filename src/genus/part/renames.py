"""What a schema calls otherwise than the one after it: the table by which parts in older files are read.

A file bears the number of the schema by which it was written; one without a number was written by schema 1. A rename of
a kind or of a choice is a line of this table, and needs no other code. A new schema is a new entry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Renames:
    """What changed from one schema to the next."""

    kinds: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """{(slot, old kind): new kind}. Slots go by the names they have today, whatever they were called then."""
    fields: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """{(kind, old name of a choice): new name}. The kind goes by its old or its new name, or by that of the slot."""
    moves: Mapping[tuple[str, str], Callable[[dict[str, Any]], dict[str, Any]]] = field(default_factory=dict)
    """{(slot, old kind): function} for what no renaming can say. It is given the table of choices with its kind as the
    old schema has it, and returns another, to which renames apply afterwards."""


ENDS: Mapping[tuple[Any, Any, Any], tuple[str | None, str | None]] = {
    ("<pad>", "<s>", "</s>"): ("<s>", "</s>"),
    ("<unk>", "<s>", "</s>"): ("<s>", "</s>"),
    ("<pad>", "[CLS]", "[SEP]"): ("[CLS]", "[SEP]"),
    ("<pad>", "<eos>", "<eos>"): (None, "<eos>"),
}
"""`bos` and `eos` of the family's vocabularies, by `pad`, `cls` and `sep`."""


def with_ends_and_summary(table: dict[str, Any]) -> dict[str, Any]:
    """Return special tokens with what schema 1 left to be guessed: `summary`, and `bos` and `eos` of known ones."""
    if "summary" in table:
        return table
    first = str(table.get("single", "")).split(" ")[0]
    bos, eos = ENDS.get((table.get("pad"), table.get("cls"), table.get("sep")), (None, None))
    return {**table, "bos": bos, "eos": eos, "summary": "first" if first == table.get("cls") else "last"}


RENAMES: Mapping[int, Renames] = {
    1: Renames(
        kinds={},
        fields={},
        moves={("Specials", "Specials"): with_ends_and_summary},
    ),
}
"""By the number of the schema from which they lead to the next."""

SCHEMA = 1 + max(RENAMES)
"""The schema of this version, by which parts are written."""

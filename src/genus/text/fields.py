"""Which fields of a JSON object, or columns of a table, make a document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Fields:
    """The names of the fields that are read; files without fields, of plain text, have no titles."""

    text: str = "text"
    title: str | None = None
    """What stands in front of the text, as a sentence of its own; None: nothing."""

    @property
    def names(self) -> list[str]:
        """All of them."""
        return [self.text] if self.title is None else [self.text, self.title]

    def __str__(self) -> str:
        """Name them in the order of the document."""
        return " and ".join(map(repr, reversed(self.names)))

    def require(self, there: Iterable[str], where: str) -> None:
        """Refuse a place that lacks one of the fields.

        Raises:
            GenusError: naming it, and those that are there.
        """
        there = list(there)
        for name, option in zip(self.names, ("--field", "--title"), strict=False):
            if name not in there:
                listed = ", ".join(map(repr, there))
                raise GenusError(f"{where}: there is no field {name!r}, but {listed}; name one of them with {option}")

    def document(self, row: Mapping[str, object], where: str) -> tuple[str, str]:
        """Return title and text of a row that has the fields; null is nothing.

        Raises:
            GenusError: a field that is not text.
        """
        return "" if self.title is None else _text(row, self.title, where), _text(row, self.text, where)


TEXT = Fields()
"""The text alone, in the field `text`."""


def _text(row: Mapping[str, object], name: str, where: str) -> str:
    value = row[name]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise GenusError(
            f"{where}: field {name!r} is not text but {str(value)[:40]!r}; name another with --field or --title"
        )
    return value

"""The fields of a JSON object, or columns of a table, that make a document."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Fields:
    """Names of the fields of text and title; plain-text files have no fields and no titles."""

    text: str = "text"
    title: str | None = None
    """Field of the title, which precedes the text as its own sentence; None: no title."""

    @property
    def names(self) -> list[str]:
        """The names of all fields that are read, the text first."""
        return [self.text] if self.title is None else [self.text, self.title]

    def __str__(self) -> str:
        """Return the quoted names in the order of the document: title, text."""
        return " and ".join(map(repr, reversed(self.names)))

    def require(self, there: Iterable[str], where: str) -> None:
        """Check that all fields are among those in `there`.

        Raises:
            GenusError: a field is missing; the message names it and the fields in `there`.
        """
        there = list(there)
        for name, option in zip(self.names, ("--field", "--title"), strict=False):
            if name not in there:
                listed = ", ".join(map(repr, there))
                raise GenusError(f"{where}: there is no field {name!r}, but {listed}; name one of them with {option}")

    def document(self, row: Mapping[str, object], where: str) -> tuple[str, str]:
        """Return title and text of a row that has the fields; null gives an empty string.

        Raises:
            GenusError: a field is not text.
        """
        return "" if self.title is None else _text(row, self.title, where), _text(row, self.text, where)


TEXT = Fields()
"""The default: text in the field `text`, no title."""


def _text(row: Mapping[str, object], name: str, where: str) -> str:
    value = row[name]
    if value is None:
        return ""
    if not isinstance(value, str):
        found = reprlib.repr(value)[:40]
        raise GenusError(f"{where}: field {name!r} is not text but {found!r}; name another with --field or --title")
    return value

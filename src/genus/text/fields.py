"""The fields of a JSON object, or columns of a table, that make a document."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genus.errors import GenusError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Document = tuple[str, str, tuple[str, ...]]
    """Title, text and codes."""

PLACES = ("@file", "@folder")
"""Names of codes that are not fields: the name of a text's file without suffixes, and that of its folder."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Names of the fields of text, title and codes; plain-text files have no fields and no titles."""

    text: str = "text"
    title: str | None = None
    """Field of the title, which precedes the text as its own sentence; None: no title."""
    codes: tuple[str, ...] = ()
    """Fields of control codes, or `PLACES`, in their order in front of a text: they are no part of the text."""
    source: str | None = None
    """Field of the source of which the text is the target, such as the same sentence in another language; None: texts
    have none. It is kept where codes are kept."""
    kept: tuple[str, ...] = ()
    """Fields that go along with a text where they are there, such as its address: they are no part of it."""

    together: str | None = None
    """Field whose value documents share that are held out together; None: each is by itself."""

    def __post_init__(self) -> None:
        """Check the names of codes.

        Raises:
            UsageError: one begins with `@` and is no place; or there are codes and a source.
        """
        if self.codes and self.source is not None:
            raise UsageError("--source: a text has a source or control codes, not both; leave --codes out")
        for name in self.codes:
            if name.startswith("@") and name not in PLACES:
                raise UsageError(f"--codes: {name!r} is no place of a text; expected {' or '.join(PLACES)}, or a field")

    @property
    def _options(self) -> dict[str, str]:
        """The option by which each field is named, the text first."""
        named = {name: "--codes" for name in self.codes if name not in PLACES}
        named |= {} if self.source is None else {self.source: "--source"}
        return {self.text: "--field"} | ({} if self.title is None else {self.title: "--title"}) | named

    @property
    def names(self) -> list[str]:
        """The names of all fields that are read, the text first."""
        return list(self._options)

    def beside(self, row: Mapping[str, object]) -> dict[str, object]:
        """Return the fields of a row that are kept beside the text."""
        return {name: row[name] for name in self._beside if name in row}

    @property
    def _beside(self) -> tuple[str, ...]:
        return self.kept if self.together is None else (*self.kept, self.together)

    def columns(self, there: Iterable[str]) -> list[str]:
        """Return the names of the columns to read of those that are there."""
        there = set(there)
        return list(dict.fromkeys([*self.names, *(name for name in self._beside if name in there)]))

    def __str__(self) -> str:
        """Return the quoted names in the order of the document: codes or source, title, text."""
        named = [*self.codes, *(name for name in (self.source, self.title) if name is not None), self.text]
        return " and ".join(map(repr, named))

    def require(self, there: Iterable[str], where: str) -> None:
        """Check that all fields are among those in `there`.

        Raises:
            GenusError: a field is missing; the message names it and the fields in `there`.
        """
        there = list(there)
        for name, option in self._options.items():
            if name not in there:
                listed = ", ".join(map(repr, there))
                raise GenusError(f"{where}: there is no field {name!r}, but {listed}; name one of them with {option}")

    def document(self, row: Mapping[str, object], source: str, where: str) -> Document:
        """Return title, text and codes of a row that has the fields; null gives an empty string, and no code.

        The source of a text, if it has one, comes as its only code.

        Raises:
            GenusError: a field is not text, or a code neither text nor a number.
        """
        title = "" if self.title is None else _text(row, self.title, where)
        codes = [_place(name, source) if name in PLACES else _code(row, name, where) for name in self.codes]
        if self.source is not None:
            codes = [_text(row, self.source, where).strip()]
        return title, _text(row, self.text, where), tuple(filter(None, codes))

    def codes_of_file(self, source: str) -> tuple[str, ...]:
        """Return the codes of a plain-text file, which all of its documents have.

        Raises:
            UsageError: a code is a field, which such a file has not; or texts have sources.
        """
        if self.source is not None:
            raise UsageError(f"{source}: --source {self.source}: text without fields has no source beside it; make it "
                             ".jsonl or .parquet with a field for each side")  # fmt: skip
        if fields := [name for name in self.codes if name not in PLACES]:
            raise UsageError(f"{source}: --codes {fields[0]}: text without fields has codes by {' and '.join(PLACES)}")
        return tuple(_place(name, source) for name in self.codes)


TEXT = Fields()
"""The default: text in the field `text`, no title and no codes."""


def _text(row: Mapping[str, object], name: str, where: str) -> str:
    value = row[name]
    if value is None:
        return ""
    if not isinstance(value, str):
        found = reprlib.repr(value)[:40]
        raise GenusError(
            f"{where}: field {name!r} is not text but {found!r}; name another with --field, --title or --source"
        )
    return value


def _code(row: Mapping[str, object], name: str, where: str) -> str:
    value = row[name]
    if value is not None and not isinstance(value, (str, int, float)):
        found = reprlib.repr(value)[:40]
        raise GenusError(
            f"{where}: field {name!r} is neither text nor a number but {found!r}; name another with --codes"
        )
    return "" if value is None else str(value).strip()


def _place(name: str, source: str) -> str:
    """Return the name of a source's file without suffixes, or of its folder."""
    path = Path(source)
    return path.name.split(".")[0] if name == "@file" else path.absolute().parent.name

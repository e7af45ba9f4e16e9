"""A block: a run of whole documents as they lie in a source, cheap to send to the process that will parse them."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents of a block, stripped of the white space around them."""

    texts: list[str]
    """None of them is empty."""
    empty: int
    """Documents that were dropped because they hold nothing but white space."""
    replaced: int
    """Invalid UTF-8 sequences and lone surrogates, each replaced by U+FFFD."""


@dataclass(frozen=True, slots=True)
class Block(ABC):
    """A run of whole documents."""

    source: str
    """The file or the dataset, for messages."""
    first: int
    """Number of the first line or row, from 1, for messages."""
    position: int
    """Bytes of all sources read up to the end of this block, as they lie on disk: what progress is measured in."""

    @abstractmethod
    def documents(self) -> Documents:
        """Parse the block.

        Raises:
            GenusError: naming the source and the line that cannot be parsed.
        """


@dataclass(frozen=True, slots=True)
class Lines(Block):
    """Plain text with one document a line."""

    data: bytes

    def documents(self) -> Documents:
        """Return the lines that are not blank; blank lines are not counted as documents."""
        text, replaced = decode(self.data)
        return _stripped((line for line in text.split("\n") if line and not line.isspace()), replaced)


@dataclass(frozen=True, slots=True)
class Paragraphs(Block):
    """Plain text with blank lines between documents."""

    data: bytes

    def documents(self) -> Documents:
        """Return what stands between blank lines."""
        text, replaced = decode(self.data)
        return _stripped(BLANK_LINES.split(text.strip()), replaced)


@dataclass(frozen=True, slots=True)
class JsonLines(Block):
    """One JSON object a line, the document in one of its fields."""

    data: bytes
    field: str

    def documents(self) -> Documents:
        """Return the field of every object; blank lines are skipped."""
        text, replaced = decode(self.data)
        found = []
        for number, line in enumerate(text.split("\n"), self.first):
            if line and not line.isspace():
                document = self._document(line, number)
                if "\\ud" in line or "\\uD" in line:  # only an escape can hold a lone surrogate, which has no UTF-8
                    document, lone = SURROGATE.subn(REPLACEMENT, document)
                    replaced += lone
                found.append(document)
        return _stripped(found, replaced)

    def _document(self, line: str, number: int) -> str:
        try:
            value = json.loads(line)
        except ValueError as error:
            raise GenusError(
                f"{self.source}, line {number}: not a line of JSON ({error}); the file may be cut short"
            ) from None
        if not isinstance(value, dict):
            raise GenusError(f"{self.source}, line {number}: expected a JSON object, got {line[:40]!r}")
        if self.field not in value:
            raise GenusError(missing_field(f"{self.source}, line {number}", self.field, list(value)))
        return checked(value[self.field], self.field, f"{self.source}, line {number}")


@dataclass(frozen=True, slots=True)
class Rows(Block):
    """Values of one column of a table."""

    values: Sequence[object]
    field: str

    def documents(self) -> Documents:
        """Return the values; null is an empty document."""
        rows = enumerate(self.values, self.first)
        return _stripped([checked(value, self.field, f"{self.source}, row {number}") for number, value in rows], 0)


def decode(data: bytes) -> tuple[str, int]:
    """Return the text of UTF-8 bytes, and how many invalid sequences were replaced by U+FFFD."""
    try:
        return data.decode(), 0
    except UnicodeDecodeError:
        text = data.decode(errors="replace")
        return text, text.count(REPLACEMENT) - data.count(REPLACEMENT.encode())


def checked(value: object, field: str, where: str) -> str:
    """Return a field that is text; null is an empty text."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise GenusError(f"{where}: field {field!r} is not text but {str(value)[:40]!r}; name another with --field")
    return value


def missing_field(where: str, field: str, fields: list[str]) -> str:
    """Return the message for a field that is not there."""
    return f"{where}: there is no field {field!r}, but {', '.join(map(repr, fields))}; name one of them with --field"


def _stripped(texts: Iterable[str], replaced: int) -> Documents:
    stripped = [text.strip() for text in texts]
    kept = [text for text in stripped if text]
    return Documents(kept, len(stripped) - len(kept), replaced)

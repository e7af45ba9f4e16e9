"""Text blocks: runs of whole, unparsed documents of a source, cheap to send to the worker that parses them."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from genus.errors import GenusError
from genus.files import reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from genus.text.fields import Document, Fields

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Documents:
    """The parsed documents of a block, without leading and trailing white space."""

    texts: list[str]
    """The texts, none empty; a document with a title begins with the title and a line break."""
    titles: list[int]
    """Length in characters of each text's title, which counts as one sentence; 0: no title."""
    empty: int
    """Documents that were dropped because their text is white space only."""
    replaced: int
    """Invalid UTF-8 sequences and lone surrogates, each replaced by U+FFFD."""
    cut: int = 0
    """Documents that were cut at the longest length of one (see `genus.text.read`); the rest is the next document."""
    codes: list[tuple[str, ...]] = field(default_factory=list)
    """Control codes of each text, none empty; or its source alone, if there is one."""
    rows: list[int] = field(default_factory=list)
    """Line or row at which each text begins, from 1."""
    kept: list[dict[str, object]] = field(default_factory=list)
    """The fields of each text that `Fields.kept` names and that are there."""


@dataclass(frozen=True, slots=True)
class TextBlock(ABC):
    """A run of whole documents of one source, not yet parsed."""

    source: str
    """The file or the dataset, for messages."""
    first: int
    """Number of the first line or row, from 1, for messages."""
    position: int
    """Bytes of all sources, as stored on disk, up to the end of this block: the unit of progress."""

    @abstractmethod
    def documents(self) -> Documents:
        """Parse the block.

        Raises:
            GenusError: a line cannot be parsed; the message names source and line.
        """


@dataclass(frozen=True, slots=True)
class Lines(TextBlock):
    """Plain text, one document per line."""

    data: bytes
    cut: int = 0
    """Documents cut at the end of the data: 0 or 1."""
    codes: tuple[str, ...] = ()
    """Control codes of all documents."""

    def documents(self) -> Documents:
        """Return the lines that are not blank; blank lines are not counted as documents."""
        text, replaced = decode(self.data)
        lines = enumerate(text.split("\n"), self.first)
        found = ((number, ("", line, self.codes)) for number, line in lines if line and not line.isspace())
        return stripped(found, replaced, self.cut)


@dataclass(frozen=True, slots=True)
class Paragraphs(TextBlock):
    """Plain text, documents separated by blank lines."""

    data: bytes
    cut: int = 0
    """Documents cut at the end of the data: 0 or 1."""
    codes: tuple[str, ...] = ()
    """Control codes of all documents."""

    def documents(self) -> Documents:
        """Return the texts between blank lines."""
        text, replaced = decode(self.data)
        parts = ((number, ("", part, self.codes)) for number, part in _paragraphs(text, self.first))
        return stripped(parts, replaced, self.cut)


@dataclass(frozen=True, slots=True)
class JsonLines(TextBlock):
    """JSON lines: one object per line, with the document in its fields."""

    data: bytes
    fields: Fields

    def documents(self) -> Documents:
        """Return the document of every object; blank lines are skipped."""
        text, replaced = decode(self.data)
        found: list[tuple[int, Document]] = []
        kept: dict[int, dict[str, object]] = {}
        for number, line in enumerate(text.split("\n"), self.first):
            if line and not line.isspace():
                value = self._value(line, number)
                title, body, codes = self.fields.document(value, self.source, f"{self.source}, line {number}")
                kept[number] = self.fields.beside(value)
                if "\\ud" in line or "\\uD" in line:  # only an escape can hold a lone surrogate: it has no UTF-8
                    (title, lone), (body, more) = (SURROGATE.subn(REPLACEMENT, part) for part in (title, body))
                    codes = tuple(SURROGATE.sub(REPLACEMENT, code) for code in codes)
                    replaced += lone + more
                found.append((number, (title, body, codes)))
        return stripped(found, replaced, kept=kept)

    def _value(self, line: str, number: int) -> dict[str, object]:
        where = f"{self.source}, line {number}"
        try:
            value = json.loads(line)
        except RecursionError:
            raise GenusError(f"{where}: its JSON is nested too deeply to be read; take the line out") from None
        except ValueError as error:
            raise GenusError(f"{where}: not a line of JSON ({reason(error)}); the file may be cut short") from None
        if not isinstance(value, dict):
            raise GenusError(f"{where}: expected a JSON object, got {line[:40]!r}")
        self.fields.require(value, where)
        return value


@dataclass(frozen=True, slots=True)
class TableRows(TextBlock):
    """Rows of a table, given by columns."""

    columns: Mapping[str, Sequence[object]]
    fields: Fields

    def documents(self) -> Documents:
        """Return the document of every row; a null text is an empty document."""
        rows = (dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True))
        numbered = dict(enumerate(rows, self.first))
        where, kept = self.source, {number: self.fields.beside(row) for number, row in numbered.items()}
        found = (
            (number, self.fields.document(row, where, f"{where}, row {number}")) for number, row in numbered.items()
        )
        return stripped(found, 0, kept=kept)


def decode(data: bytes) -> tuple[str, int]:
    """Decode UTF-8; return the text and the number of invalid sequences, each replaced by U+FFFD."""
    try:
        return data.decode(), 0
    except UnicodeDecodeError:
        text = data.decode(errors="replace")
        return text, text.count(REPLACEMENT) - data.count(REPLACEMENT.encode())


def _paragraphs(text: str, first: int) -> Iterator[tuple[int, str]]:
    """Yield the texts between blank lines, each with the number of its first line; that of the text is `first`."""
    begin, number = 0, first
    for gap in (*BLANK_LINES.finditer(text), None):
        end = len(text) if gap is None else gap.start()
        if part := text[begin:end].strip():
            yield number + text.count("\n", begin, text.index(part, begin)), part
        if gap is not None:
            number += text.count("\n", begin, gap.end())
            begin = gap.end()


def stripped(
    documents: Iterable[tuple[int, Document]],
    replaced: int,
    cut: int = 0,
    kept: Mapping[int, dict[str, object]] = MappingProxyType({}),
) -> Documents:
    """Strip documents given as (row, (title, text, codes)) and drop the empty ones; `kept` is by row."""
    found = [(row, title.strip(), text.strip(), codes) for row, (title, text, codes) in documents]
    there = [one for one in found if one[2]]
    return Documents(
        texts=[f"{title}\n{text}" if title else text for _, title, text, _ in there],
        titles=[len(title) for _, title, _, _ in there],
        empty=len(found) - len(there),
        replaced=replaced,
        cut=cut,
        codes=[codes for _, _, _, codes in there],
        rows=[row for row, *_ in there],
        kept=[kept.get(row, {}) for row, *_ in there],
    )

"""Documents with their identity, as lines of JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genus.text.blocks import REPLACEMENT, SURROGATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genus.curate import Outcome
    from genus.text.blocks import Documents, TextBlock

KEPT = ("id", "url", "date", "timestamp")
"""Fields that always go along with a text, where they are there."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text, and what says where it comes from."""

    text: str
    identity: dict[str, Any]
    """`source`, the file or dataset, and `row`, its line or row there, from 1; then the fields that were kept, which a
    curation of a curation gives the first two from."""

    @property
    def source(self) -> str:
        """The file or dataset that the text comes from."""
        return str(self.identity["source"])

    def after(self, outcome: Outcome) -> Document:
        """Return what a step leaves of the document, with what the step found out of it."""
        return Document(outcome.text, {**self.identity, **outcome.facts} if outcome.facts else self.identity)

    def line(self) -> bytes:
        """Return the document as a line of JSON."""
        line = json.dumps({"text": self.text, **self.identity}, ensure_ascii=False, default=str) + "\n"
        try:
            return line.encode()
        except UnicodeEncodeError:  # half a character, which has no UTF-8
            return SURROGATE.sub(REPLACEMENT, line).encode()


def of_block(block: TextBlock, found: Documents) -> Iterator[Document]:
    """Yield the documents of a block."""
    for text, row, kept in zip(found.texts, found.rows, found.kept, strict=True):
        yield Document(text, {"source": block.source, "row": row, **kept})


def of_line(line: bytes) -> Document:
    """Return the document of a line that `Document.line` wrote."""
    table = json.loads(line)
    return Document(table.pop("text"), table)

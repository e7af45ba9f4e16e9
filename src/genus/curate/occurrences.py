"""Occurrences of a string in text or in a token store: how many there are, and in which documents."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from genus.curate.document import KEPT, Document, of_block
from genus.curate.tokenizers import loaded
from genus.errors import UsageError
from genus.text.fields import Fields
from genus.text.read import read_blocks
from genus.text.sources import find

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from genus.curate.engines import Engine
    from genus.text import Source, TextBlock

DOCUMENTS = 1_000
"""Documents of a token store that are decoded at once."""


class Occurrence(NamedTuple):
    """A place where the string stands."""

    identity: dict[str, Any]
    """Of the document: `source`, `row` and what else is known of it."""
    place: int
    """Characters of the document before it."""
    before: str
    after: str


@dataclass(slots=True)
class Found:
    """What was found."""

    occurrences: int = 0
    """All of them, those that overlap too."""
    documents: int = 0
    """Documents that have one."""
    shown: list[Occurrence] = field(default_factory=list)
    """The first ones of the corpus."""

    def add(self, other: Found, most: int) -> None:
        """Add what was found in what follows, and show no more than `most`."""
        self.occurrences += other.occurrences
        self.documents += other.documents
        self.shown += other.shown[: max(0, most - len(self.shown))]


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for, and how much of it is told."""

    string: str
    context: int = 40
    """Characters on either side that are shown."""
    most: int = 10
    """Occurrences that are shown."""

    def __post_init__(self) -> None:
        """Check that there is something to look for.

        Raises:
            UsageError: there is not, or a number is negative.
        """
        if not self.string:
            raise UsageError("the string is empty; give some text to look for")
        if self.context < 0 or self.most < 0:
            raise UsageError("--context and --show: expected 0 or more")

    def within(self, document: Document) -> Found:
        """Return what is found in a document."""
        text, size = document.text, len(self.string)
        places = list(_places(text, self.string))
        shown = [
            Occurrence(
                document.identity, place, text[max(0, place - self.context) : place],
                text[place + size : place + size + self.context],
            )
            for place in places[: self.most]
        ]  # fmt: skip
        return Found(len(places), 1 if places else 0, shown)


class Piece(Protocol):
    """A part of a corpus that another process can read."""

    def read(self) -> Iterator[Document]:
        """Yield its documents."""
        ...


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A block of text."""

    block: TextBlock

    def read(self) -> Iterator[Document]:
        """Yield its documents."""
        yield from of_block(self.block, self.block.documents())


@dataclass(frozen=True, slots=True)
class StorePiece:
    """Documents of a token store, which are known by their numbers, from 1."""

    folder: Path
    tokenizer: Path
    first: int

    def read(self) -> Iterator[Document]:
        """Yield the decoded documents."""
        from genus.tokens.store import Store

        tokenizer = loaded(self.tokenizer)
        store = Store.open(self.folder, tokenizer)
        for number, (begin, end) in enumerate(store.documents[self.first : self.first + DOCUMENTS], self.first + 1):
            ids = store.ids[store.sentences[begin] : store.sentences[end]]
            yield Document(tokenizer.decode(ids.tolist()), {"source": str(self.folder), "row": number})


@dataclass(frozen=True)
class Corpus:
    """Text and token stores."""

    names: Sequence[str]
    """Files and folders of text, dataset ids, folders of token stores or of runs that have one."""
    field: str = "text"
    tokenizer: Path | None = None
    """Of the token stores; None: the `tokenizer` beside each."""

    def pieces(self) -> Iterator[Piece]:
        """Yield the corpus piece by piece.

        Raises:
            UsageError: a name means nothing, or a store has no tokenizer beside it.
            GenusError: something cannot be read.
        """
        from genus.tokens.store import Store

        fields = Fields(self.field, kept=KEPT)
        for name in self.names:
            if (folder := _store(name)) is None:
                yield from map(TextPiece, read_blocks(find([name]), fields))
                continue
            tokenizer = self._tokenizer_of(folder)
            documents = len(Store.open(folder, loaded(tokenizer)).documents)
            yield from (StorePiece(folder, tokenizer, first) for first in range(0, documents, DOCUMENTS))

    def sources(self) -> list[Source]:
        """Return the files and datasets by which a change is noticed; of a store, that with its checksums."""
        from genus.tokens.store.journal import META

        stores = ((name, _store(name)) for name in self.names)
        return [source for name, folder in stores for source in (find([name]) if folder is None else [folder / META])]

    def _tokenizer_of(self, folder: Path) -> Path:
        found = self.tokenizer or folder.parent / "tokenizer"
        if not found.is_dir():
            raise UsageError(f"{folder}: is a token store; say with --tokenizer FOLDER by which it was made")
        return found


@dataclass(frozen=True)
class Scan:
    """The work of one piece."""

    query: Query

    def __call__(self, piece: Piece) -> Found:
        """Return what is found in a piece."""
        found = Found()
        for document in piece.read():
            found.add(self.query.within(document), self.query.most)
        return found


def scan(corpus: Corpus, query: Query, engine: Engine) -> Found:
    """Return what is found in a corpus, all of which is read.

    Raises:
        GenusError: something cannot be read.
    """
    found = Found()
    for part in engine.in_order(Scan(query), corpus.pieces()):
        found.add(part, query.most)
    return found


def _places(text: str, string: str) -> Iterator[int]:
    place = text.find(string)
    while place >= 0:
        yield place
        place = text.find(string, place + 1)


def _store(name: str) -> Path | None:
    """Return the folder of the token store that a name means, None where it means text."""
    from genus.tokens.store import Store

    return next((folder for folder in (Path(name), Path(name) / "store") if Store.is_at(folder)), None)

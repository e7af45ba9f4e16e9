"""Archives of a crawl (WARC, ISO 28500) as blocks of pages.

These are answers in HTML or plain text, and texts that others took out of pages. Requests, metadata, images and failed
answers are no documents; they count as rows.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from genus.errors import library
from genus.text.html_pages import Page, Pages
from genus.text.read import BLOCK_BYTES, LONGEST_DOCUMENT, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from genus.text.fields import Fields

TYPES = ("text/html", "application/xhtml+xml", "text/plain")
ANSWERED = 200
"""HTTP's status of an answer that has what was asked for."""
END = b"\r\n\r\n"
"""What every record ends with."""


def read_archive(path: Path, fields: Fields, start: int) -> Iterator[Pages]:
    """Yield the pages of an archive in blocks.

    Raises:
        GenusError: the library is missing.
        OSError or EOFError: the file is no archive, or ends within a record.
    """
    library = warc(path)
    pages: list[Page] = []
    size = cut = 0
    with path.open("rb") as raw, unpacked(raw, path) as file:
        for row, record in enumerate(records(library, Counted(file)), 1):
            found = page(record, row, library.WarcRecordType)
            if found is not None:
                cut += len(found.data) > LONGEST_DOCUMENT
                pages.append(found._replace(data=found.data[:LONGEST_DOCUMENT]))
                size += len(pages[-1].data)
            if size >= BLOCK_BYTES:
                yield Pages(str(path), pages[0].row, start + raw.tell(), tuple(pages), cut)
                pages, size, cut = [], 0, 0
        if pages:
            yield Pages(str(path), pages[0].row, start + raw.tell(), tuple(pages), cut)


class Counted(io.RawIOBase):
    """A stream that knows how much of it was read, and how that ended."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.size = 0
        self.end = b""

    def readable(self) -> bool:
        """Return true."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read from the source."""
        data: bytes = self.source.read(size)
        self.size += len(data)
        self.end = (self.end + data)[-len(END) :]
        return data

    def tell(self) -> int:
        """Return how many bytes were read."""
        return self.size


def records(library: Any, file: Counted) -> Iterator[Any]:
    """Yield the records of an archive.

    Raises:
        EOFError: it ends within a record, of which the library says nothing.
        OSError: it is no archive, or damaged.
    """
    end = 0
    for record in library.ArchiveIterator(file, auto_decode="all"):
        end = record.stream_pos + record.content_length
        yield record
    if end > file.size or (file.size and file.end != END):
        raise EOFError("it ends within a record")


def page(record: Any, row: int, kinds: Any) -> Page | None:
    """Return the page that a record holds; None: it holds none."""
    kind = record.record_type
    if kind == kinds.response:
        if record.http_headers is None or record.http_headers.status_code != ANSWERED:
            return None
        type, charset = record.http_content_type, record.http_charset
    elif kind in (kinds.conversion, kinds.resource):
        type, _, rest = record.headers.get("Content-Type", "").partition(";")
        charset = rest.partition("charset=")[2].strip() or ("utf-8" if kind == kinds.conversion else None)
    else:
        return None
    if (type or "").strip().lower() not in TYPES:
        return None
    kept = {
        "id": record.headers.get("WARC-Record-ID"),
        "url": record.headers.get("WARC-Target-URI"),
        "date": record.headers.get("WARC-Date"),
    }
    return Page(row, record.reader.read(LONGEST_DOCUMENT + 1), charset, kept)


def warc(path: Path) -> Any:
    """Return the library that reads archives.

    Raises:
        GenusError: it is missing.
    """
    return library("fastwarc.warc", f"{path}: reading WARC", "curate")

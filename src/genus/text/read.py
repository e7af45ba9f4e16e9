"""Stream sources as blocks of whole documents: one pass, bounded memory.

Plain text: if a file has a blank line between lines of text, blank lines separate its documents; otherwise every line
is a document.
"""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from genus.errors import GenusError, library
from genus.files import reason
from genus.places import is_remote
from genus.text.blocks import JsonLines, Lines, Paragraphs, TableRows, TextBlock
from genus.text.fields import TEXT, Fields
from genus.text.sources import find, format_of, load_hub
from genus.text.zstd import ZstdFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from io import BufferedReader
    from pathlib import Path

    from genus.text.sources import Source

BLOCK_BYTES = 1 << 22
"""Decompressed bytes per block: enough to outweigh the cost of sending it to a worker, little compared to memory."""
BLOCK_ROWS = 2_000
LONGEST_DOCUMENT = 1 << 25
"""Maximum bytes of a document of plain text, or of a line or row: what is read of a file at once. Longer plain text is
cut there, other documents are refused."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""UTF-16 byte-order marks; the first is also UTF-32's. Without a mark, an ASCII letter has a NUL byte beside it."""


@dataclass(frozen=True)
class Corpus:
    """A re-iterable corpus: the documents of several sources (see `read_documents`)."""

    sources: Sequence[Path | str]
    fields: Fields = TEXT

    def __iter__(self) -> Iterator[str]:
        """Read the documents from the beginning."""
        return read_documents(self.sources, self.fields)


def read_documents(sources: Iterable[Path | str], fields: Fields = TEXT) -> Iterator[str]:
    """Yield the documents of .txt, .jsonl and .parquet files, folders of such files, and Hugging Face dataset ids.

    The control codes of a document, or its source, come before it, each as a text of its own.

    Args:
        sources: paths, or ids such as `org/name` or `org/name:config`.
        fields: names of the fields or columns of text and title, if the format has fields.

    Raises:
        UsageError: a path that does not exist, or a file of another format.
        GenusError: an unreadable, truncated or malformed file, or a missing field; the message names file and line.
    """
    for block in read_blocks(find(sources), fields):
        found = block.documents()
        for text, codes in zip(found.texts, found.codes, strict=True):
            yield from codes
            yield text


def read_blocks(sources: list[Source], fields: Fields, start: int = 0) -> Iterator[TextBlock]:
    """Yield the blocks of files and datasets, the same ones in every call.

    Raises:
        GenusError: an unreadable, truncated or malformed file, or a missing field.
    """
    for is_page, several in itertools.groupby(sources, is_page_file):
        if is_page:
            from genus.text.html_pages import read_pages

            paths = [source for source in several if not isinstance(source, str)]
            yield from read_pages(paths, start)
            start += sum(path.stat().st_size for path in paths)
            continue
        for source in several:
            if isinstance(source, str):
                yield from _read_hub(source, fields, start)
                continue
            with readable(source):
                size = source.stat().st_size
                yield from _reader(source)(source, fields, start)
            start += size


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn the errors of a file that is read into one line.

    Raises:
        GenusError: the file cannot be read, or ends too early.
    """
    try:
        yield
    except PermissionError as error:
        raise GenusError(f"{path}: cannot be read: {reason(error)}") from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise GenusError(
            f"{path}: cannot be read to its end ({reason(error)}); the file may be cut short or damaged"
        ) from None


def is_page_file(source: Source) -> bool:
    """Return whether a source is a file that holds one page of the web."""
    return not isinstance(source, str) and format_of(source, raw=True) in (".html", ".htm")


def _reader(path: Path) -> Callable[[Path, Fields, int], Iterator[TextBlock]]:
    format = format_of(path, raw=True)
    if format in (".warc", ".wet"):
        from genus.text.archives import read_archive

        return read_archive
    if format == ".xml":
        from genus.text.wiki import read_wiki

        return read_wiki
    return _read_parquet if format == ".parquet" else _read_lines


def read_whole(path: Path) -> str:
    """Return the whole text of a file of any name, plain or compressed, with its spaces and ends of lines.

    Raises:
        GenusError: the file cannot be read, or is no UTF-8.
    """
    try:
        with path.open("rb") as raw, unpacked(raw, path) as file:
            data = file.read()
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise GenusError(f"{path}: cannot be read: {reason(error)}") from None
    _check_encoding(path, data)
    try:
        return data.removeprefix(BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        raise GenusError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None


def _read_lines(path: Path, fields: Fields, start: int) -> Iterator[TextBlock]:
    json = format_of(path) == ".jsonl"
    paragraphs = not json and _has_blank_lines(path)
    with path.open("rb") as raw, unpacked(raw, path) as file:
        first = 1
        while found := _whole_documents(file, paragraphs):
            data, cut = found
            lines = data.count(b"\n")
            if first == 1:
                _check_encoding(path, data)
                data = data.removeprefix(BYTE_ORDER_MARK)
            place = (str(path), first, start + raw.tell())
            if json and cut:
                raise GenusError(
                    f"{path}, line {first + lines}: is longer than {LONGEST_DOCUMENT >> 20} MB; make it several lines"
                )
            if json:
                yield JsonLines(*place, data, fields)
            else:
                kind = Paragraphs if paragraphs else Lines
                yield kind(*place, data, cut, fields.codes_of_file(str(path)))
            first += lines


def _check_encoding(path: Path, data: bytes) -> None:
    """Refuse a file that does not begin as lines of UTF-8.

    Raises:
        GenusError: it begins as UTF-16 or UTF-32, or its lines do not end in a line feed.
    """
    if data.startswith(WIDE_MARKS) or b"\0" in data[:2]:
        raise GenusError(f"{path}: is UTF-16, or no text; convert it to UTF-8")
    if b"\r" in data.rstrip() and b"\n" not in data:
        raise GenusError(f"{path}: its lines end in a carriage return alone; convert them to line feeds")


def _whole_documents(file: BufferedReader, paragraphs: bool) -> tuple[bytes, int] | None:
    """Read `BLOCK_BYTES` and on to the end of the line or, for paragraphs, to the next blank line.

    Returns:
        The data, and 1 where it ends within a document, which was too long to be read to its end; None: there is none.
    """
    parts, room = [file.read(BLOCK_BYTES)], LONGEST_DOCUMENT
    if parts[0] and not parts[0].endswith(b"\n"):
        parts.append(file.readline(room))
        room -= len(parts[-1])
    while paragraphs and room and parts[-1].strip():
        parts.append(file.readline(room))
        room -= len(parts[-1])
    if not parts[0]:
        return None
    while not room and (rest := file.peek(1)[:1]) and rest[0] & 0xC0 == 0x80:  # the rest of a character of UTF-8
        parts.append(file.read(1))
    return b"".join(parts), int(not room)


def _has_blank_lines(path: Path) -> bool:
    """Return whether a blank line stands between two lines of text; reads no further than the first such line."""
    with path.open("rb") as raw, unpacked(raw, path) as file:
        text = blank = False
        for line in iter(lambda: file.readline(LONGEST_DOCUMENT), b""):
            if not line.strip():
                blank = text
            elif blank:
                return True
            else:
                text = True
    return False


def unpacked(raw: BufferedReader, path: Path) -> BufferedReader:
    """Return the decompressed content of a file, by the end of its name."""
    packing = path.suffix.lower()
    if packing == ".gz":
        return cast("BufferedReader", gzip.open(raw))
    if packing == ".bz2":
        return cast("BufferedReader", bz2.open(raw))
    if packing == ".xz":
        return cast("BufferedReader", lzma.open(raw))
    if packing == ".zst":
        return io.BufferedReader(ZstdFile(raw), BLOCK_BYTES)
    return io.BufferedReader(cast("Any", raw), BLOCK_BYTES) if is_remote(path) else raw


def _read_parquet(path: Path, fields: Fields, start: int) -> Iterator[TextBlock]:
    parquet = library("pyarrow.parquet", f"{path}: reading .parquet", "data")
    pyarrow = library("pyarrow", f"{path}: reading .parquet", "data")
    try:
        with parquet.ParquetFile(path.open("rb") if is_remote(path) else path) as file:
            fields.require(file.schema_arrow.names, str(path))
            rows, size = max(1, file.metadata.num_rows), path.stat().st_size
            groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
            unpacked = max([group.total_byte_size / max(1, group.num_rows) for group in groups], default=0)
            at_once = max(1, min(BLOCK_ROWS, int(LONGEST_DOCUMENT / max(1, unpacked))))
            columns = fields.columns(file.schema_arrow.names)
            batches = (_columns(batch, str(path)) for batch in file.iter_batches(at_once, columns=columns))
            yield from _rows(batches, str(path), fields, start, size / rows)
    except pyarrow.ArrowException as error:
        raise GenusError(
            f"{path}: cannot be read as Parquet ({reason(error)}); the file may be cut short or damaged"
        ) from None


def _columns(batch: Any, where: str) -> dict[str, list[object]]:
    """Return the columns of an Arrow batch as lists.

    Raises:
        GenusError: a text is longer than `LONGEST_DOCUMENT`.
    """
    from pyarrow import compute, types

    texts = (column for column in batch.columns if types.is_string(column.type) or types.is_large_string(column.type))
    if any((compute.max(compute.binary_length(text)).as_py() or 0) > LONGEST_DOCUMENT for text in texts):
        raise GenusError(f"{where}: a text is longer than {LONGEST_DOCUMENT >> 20} MB; make it several rows")
    columns: dict[str, list[object]] = batch.to_pydict()
    return columns


def _read_hub(name: str, fields: Fields, start: int) -> Iterator[TextBlock]:
    dataset: Any = load_hub(name)
    fields.require(dataset.column_names, name)
    batches = dataset.select_columns(fields.columns(dataset.column_names)).iter(BLOCK_ROWS)
    yield from _rows(batches, name, fields, start, 0)


def _rows(
    batches: Iterable[Mapping[str, list[object]]], source: str, fields: Fields, start: int, row_bytes: float
) -> Iterator[TextBlock]:
    """Yield blocks of columns; the position in the file is estimated from the number of rows."""
    done = 0
    for columns in batches:
        first, done = done + 1, done + len(columns[fields.text])
        yield TableRows(source, first, start + int(row_bytes * done), columns, fields)

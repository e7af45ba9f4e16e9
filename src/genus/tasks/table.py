"""Read tables row by row: JSON lines, CSV, TSV, Parquet, SQuAD's JSON, and text files with a column each.

All may be plain or compressed.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import sys
import zlib
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TextIO

from genus.errors import GenusError, UsageError
from genus.files import reason
from genus.tasks.notices import Notices
from genus.text.blocks import REPLACEMENT, SURROGATE
from genus.text.read import WIDE_MARKS
from genus.text.sources import COMPRESSIONS
from genus.text.zstd import ZstdFile

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
TWICE: Final = object()
"""The cell of a column whose name stands twice in its row."""
INVALID = f"what is no UTF-8 is replaced by {REPLACEMENT}; convert the file to UTF-8"


def rows(
    path: Path, notices: Notices | None = None, columns: Collection[str] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, row); the number counts lines (rows in Parquet) from 1.

    Invalid UTF-8 is replaced and counted. TSV has no quoting, as in GLUE's own files.

    Args:
        path: the table; of plain text files with a column each, what their names begin with (see `parallel`).
        notices: gets what was replaced, and what seems wrong.
        columns: the columns that are needed; others of Parquet, which may be large, are None.

    Raises:
        GenusError: a missing, truncated or unreadable file, or a malformed row.
        UsageError: an unsupported file format.
    """
    notices = Notices() if notices is None else notices
    sides = parallel(path, columns or ())
    kind = "" if sides else suffix(path)
    try:
        if sides:
            yield from _parallel(sides, notices)
        elif kind == ".parquet":
            yield from _parquet(path, notices, columns)
        else:
            yield from {".jsonl": _jsonl, ".json": _nested}.get(kind, _csv)(path, notices)
    except FileNotFoundError:
        raise GenusError(f"{path}: there is no such file") from None
    except PermissionError as error:
        raise GenusError(f"{path}: cannot be read: {reason(error)}") from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise GenusError(f"{path}: cannot be read, or is cut short: {reason(error)}") from None


def suffix(path: Path) -> str:
    """Return the file format of a table, such as `.csv`, from its name without the compression suffix.

    Raises:
        UsageError: an unsupported file format.
    """
    endings = [ending for ending in path.suffixes[-2:] if ending not in COMPRESSIONS]
    if not endings or endings[-1] not in SUFFIXES:
        expected = f"{', '.join(SUFFIXES)}, plain or compressed as .gz, .xz or .zst"
        raise UsageError(f"{path}: not a kind of table that can be read; expected {expected}")
    return endings[-1]


def parallel(path: Path, columns: Collection[str]) -> dict[str, Path]:
    """Return the files of a table by column, where it is plain text with a line a row; empty where it is another.

    Table `train` with the columns `de` and `en` is `train.de` and `train.en`, plain or compressed.

    Raises:
        GenusError: some of the columns have a file, and others none.
    """
    if path.suffix in (*SUFFIXES, *COMPRESSIONS) or path.exists():
        return {}
    found = {column: _side(path, column) for column in columns}
    there = {column: file for column, file in found.items() if file is not None}
    if there and (missing := [column for column in columns if column not in there]):
        raise GenusError(f"{path}.{missing[0]}: there is no such file, beside {min(there.values())}")
    return there


def beside(path: Path, columns: Sequence[str]) -> Path | None:
    """Return the table of which a plain text file is a column, None where it is none."""
    plain = path.with_suffix("") if path.suffix in COMPRESSIONS else path
    return plain.with_suffix("") if plain.suffix[1:] in columns else None


def _side(path: Path, column: str) -> Path | None:
    """Return the file of a column, None where there is none."""
    names = (f"{path.name}.{column}{packed}" for packed in ("", *COMPRESSIONS))
    return next((file for name in names if (file := path.with_name(name)).is_file()), None)


def _parallel(sides: Mapping[str, Path], notices: Notices) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the lines of several files as rows."""
    with ExitStack() as stack:
        files = [stack.enter_context(_open(path)) for path in sides.values()]
        for number, lines in enumerate(zip_longest(*files), 1):
            if None in lines:
                short = next(path for path, line in zip(sides.values(), lines, strict=True) if line is None)
                others = ", ".join(str(path) for path in sides.values() if path != short)
                raise GenusError(f"{short}: ends after {number - 1:,} lines, and not so {others}; line n of all files "
                                 "is one row, so give them as many lines")  # fmt: skip
            texts = _clean([line.rstrip("\r\n") for line in lines], number, notices)
            yield number, dict(zip(sides, texts, strict=True))


@contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    """Open a table as text; a byte that is not UTF-8 becomes a lone surrogate, as one that JSON escapes.

    Raises:
        GenusError: the file is UTF-16 or no text.
    """
    unpack: dict[str, Callable[[BinaryIO], Any]] = {".gz": gzip.open, ".xz": lzma.open, ".zst": ZstdFile}
    with path.open("rb") as raw, unpack.get(path.suffix, nullcontext)(raw) as binary:
        buffered = io.BufferedReader(binary)
        start = buffered.peek(2)[:2]
        if start in WIDE_MARKS or b"\0" in start:
            raise GenusError(f"{path}: is UTF-16, or no text; convert it to UTF-8")
        yield io.TextIOWrapper(buffered, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _jsonl(path: Path, notices: Notices) -> Iterator[tuple[int, dict[str, Any]]]:
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, object_pairs_hook=_object)
                if SURROGATE.search(line) or "\\ud" in line or "\\uD" in line:
                    row = _clean(row, number, notices)
            except (ValueError, RecursionError) as error:
                raise GenusError(f"{path}, line {number}: not JSON: {reason(error)}") from None
            if not isinstance(row, dict):
                raise GenusError(f"{path}, line {number}: expected an object with named columns on each line")
            yield number, row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object from its names and values."""
    return _named([name for name, _ in pairs], [value for _, value in pairs])


def _named(columns: Sequence[str], cells: Iterable[Any]) -> dict[str, Any]:
    """Return cells by column; those of a name that stands twice become `TWICE`."""
    row = dict(zip(columns, cells, strict=True))
    return row if len(row) == len(columns) else row | {name: TWICE for name in row if columns.count(name) > 1}


def _nested(path: Path, notices: Notices) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the questions of SQuAD's own JSON, numbered from 1: articles hold paragraphs, and these questions."""
    number = 0
    try:
        with _open(path) as file:
            articles = json.load(file)["data"]
        for article in articles:
            for paragraph in article["paragraphs"]:
                above = {"title": article.get("title"), "context": paragraph["context"]}
                for question in paragraph["qas"]:
                    row = _clean(above | question, number + 1, notices)
                    number += 1
                    yield number, row
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GenusError(
            f"{path}, question {number + 1}: not JSON as SQuAD's, whose `data` hold `paragraphs`, and these `qas` "
            f"({reason(error)}); write other tables as .jsonl, a row a line"
        ) from None


def _clean(value: Any, line: int, notices: Notices) -> Any:
    """Return bytes as strings, and strings with lone surrogates replaced, also within lists and objects."""
    if isinstance(value, bytes):
        value = value.decode(errors="surrogateescape")
    if isinstance(value, str):
        text, count = SURROGATE.subn(REPLACEMENT, value)
        notices.add(INVALID, line, count)
        return text
    if isinstance(value, list):
        return [_clean(one, line, notices) for one in value]
    if isinstance(value, dict):
        return {_clean(name, line, notices): _clean(one, line, notices) for name, one in value.items()}
    return value


def _csv(path: Path, notices: Notices) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(sys.maxsize)
    plain, first = suffix(path) == ".tsv", 1
    with _open(path) as file:
        lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if plain else csv.reader(file, strict=True)
        columns: list[str] | None = None
        try:
            for fields in lines:
                fields = _clean(fields, lines.line_num, notices)
                if columns is None:
                    columns = fields
                    _check_delimiter(path, columns, "\t" if plain else ",")
                elif fields:
                    yield lines.line_num, _row(path, first, lines.line_num, columns, fields, notices)
                first = lines.line_num + 1
        except csv.Error as error:
            raise GenusError(
                f"{path}, line {first}: a quote is not closed, or text follows it ({error}); "
                'a text with quotes stands in quotes and doubles its own, as "say ""a"" or ""b"""'
            ) from None


def _row(path: Path, first: int, last: int, columns: list[str], fields: list[str], notices: Notices) -> dict[str, Any]:
    """Return a row of a CSV or TSV file that stands in the lines `first` to `last`."""
    if len(fields) != len(columns):
        raise GenusError(
            f"{path}, line {last}: {len(fields)} fields under {len(columns)} columns; "
            "a text that holds what separates fields stands in quotes in a .csv, and in no .tsv"
        )
    if last > first:
        notices.add("quoted texts run on over several lines; see that no quote is stray", first)
    return _named(columns, fields)


def _check_delimiter(path: Path, columns: list[str], delimiter: str) -> None:
    """Raise a GenusError if the header is one column that holds another delimiter."""
    other = next((mark for mark in ",;\t|" if mark != delimiter and len(columns) == 1 and mark in columns[0]), None)
    if other is not None:
        raise GenusError(f"{path}, line 1: columns seem to be separated by {other!r}, not by {delimiter!r}; "
                         "write a .csv with commas, or a .tsv with tabs")  # fmt: skip


def _parquet(path: Path, notices: Notices, columns: Collection[str] | None) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise GenusError(f"{path}: reading .parquet needs pyarrow: pip install 'genus[data]'") from None
    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            names = batch.schema.names
            wanted = [columns is None or name in columns for name in names]
            several = (one.to_pylist() if use else [None] * len(one) for one, use in zip(batch, wanted, strict=True))
            bytewise = any("binary" in str(one.type) for one in batch)
            for cells in zip(*several, strict=True):
                number += 1
                yield number, _named(names, _clean([*cells], number, notices) if bytewise else cells)
    except (pyarrow.ArrowException, ValueError, OverflowError) as error:
        raise GenusError(f"{path}: cannot be read: {reason(error)}") from None

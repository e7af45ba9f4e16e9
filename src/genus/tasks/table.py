"""Read tables row by row: JSON lines, CSV, TSV and Parquet, plain or compressed."""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import sys
import zlib
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from genus.errors import GenusError, UsageError
from genus.text.sources import COMPRESSIONS
from genus.text.zstd import ZstdFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, row); the number counts lines (rows in Parquet) from 1.

    Invalid UTF-8 is replaced. TSV has no quoting, as in GLUE's own files.

    Raises:
        GenusError: a missing, truncated or unreadable file, or a malformed row.
        UsageError: an unsupported file format.
    """
    kind = suffix(path)
    readers = {".jsonl": _jsonl, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}
    try:
        yield from readers[kind](path)
    except FileNotFoundError:
        raise GenusError(f"{path}: there is no such file") from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error, csv.Error) as error:
        raise GenusError(f"{path}: cannot be read, or is cut short: {error}") from None


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


@contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    unpack: dict[str, Callable[[BinaryIO], Any]] = {".gz": gzip.open, ".xz": lzma.open, ".zst": ZstdFile}
    with path.open("rb") as raw, unpack.get(path.suffix, nullcontext)(raw) as binary:
        yield io.TextIOWrapper(io.BufferedReader(binary), encoding="utf-8-sig", errors="replace", newline="")


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise GenusError(f"{path}, line {number}: not JSON: {error}") from None
            if not isinstance(row, dict):
                raise GenusError(f"{path}, line {number}: expected an object with named columns")
            yield number, row


def _csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(sys.maxsize)
    plain = suffix(path) == ".tsv"
    with _open(path) as file:
        lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if plain else csv.reader(file)
        columns = next(lines, [])
        for fields in lines:
            if not fields:
                continue
            if len(fields) != len(columns):
                raise GenusError(f"{path}, line {lines.line_num}: {len(fields)} fields under {len(columns)} columns")
            yield lines.line_num, dict(zip(columns, fields, strict=True))


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise GenusError(f"{path}: reading .parquet needs pyarrow: pip install 'genus[data]'") from None
    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except pyarrow.ArrowException as error:
        raise GenusError(f"{path}: cannot be read: {error}") from None

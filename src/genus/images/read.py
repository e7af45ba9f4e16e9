"""Rows with an image each: of tables that name files, of Parquet files and tar shards that hold them, of folders."""

from __future__ import annotations

import csv
import gzip
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genus.errors import GenusError, UsageError, library
from genus.files import reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from io import TextIOBase

IMAGE, CAPTION, LABEL = "image", "caption", "label"
"""Columns: the path of an image or its bytes, what it shows, and the class that it is of."""
TABLES, HOLDERS = (".jsonl", ".csv"), (".parquet", ".tar")
"""Formats of tables that name files, and of files that hold images."""
PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
BESIDE = {".txt": CAPTION, ".cls": LABEL}
"""What a tar shard has of an image in files of the same name, as webdataset names them."""
AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One row: an image and what stands beside it."""

    name: str
    """For messages, and by which rows of one image are told."""
    data: bytes
    """The file of the image as it is; empty where there is a problem."""
    cells: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    """Why there is no image; "" where there is one."""


def find(sources: Iterable[Path | str]) -> list[Path]:
    """Return the files with rows of images: folders are replaced by the tables, Parquet files and shards within them.

    A folder without any of these is returned itself: its rows are the images in it.

    Raises:
        UsageError: a path does not exist, or is of another format.
        GenusError: there is no source.
    """
    found: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            inside = sorted(path for path in source.iterdir() if path.is_file() and kind_of(path) is not None)
            found += inside or [source]
        elif not source.exists():
            raise UsageError(f"{source}: there is no such file or folder")
        elif kind_of(source) is None:
            raise UsageError(f"{source}: expected a table of images ({', '.join((*TABLES, *HOLDERS))}), or a folder")
        else:
            found.append(source)
    if not found:
        raise GenusError("there are no images: name a table, a folder or a shard of them")
    return found


def kind_of(path: Path) -> str | None:
    """Return the format of a file with rows of images, tables also packed by gzip; None: another one."""
    name = path.name.lower().removesuffix(".gz")
    return next((kind for kind in (*TABLES, *HOLDERS) if name.endswith(kind)), None)


def read_images(files: Iterable[Path]) -> Iterator[ImageRow]:
    """Yield the rows of files that `find` found, in their order.

    Raises:
        GenusError: a file cannot be read; what is wrong with one image is told in its row.
    """
    readers = {".jsonl": _table, ".csv": _table, ".parquet": _parquet, ".tar": _shard, None: _pictures}
    for path in files:
        try:
            yield from readers[None if path.is_dir() else kind_of(path)](path)
        except (OSError, EOFError, csv.Error, tarfile.TarError, UnicodeDecodeError) as error:
            raise GenusError(f"{path}: cannot be read to its end ({reason(error)}); it may be cut short") from None


def _table(path: Path) -> Iterator[ImageRow]:
    """Yield the rows of a table; paths are relative to its folder."""
    with _opened(path) as file:
        rows = _objects(file, path) if kind_of(path) == ".jsonl" else enumerate(csv.DictReader(file), 2)
        for line, cells in rows:
            where = f"{path}, line {line}"
            if not isinstance(cells.get(IMAGE), str) or not cells[IMAGE]:
                raise GenusError(f"{where}: there is no column {IMAGE!r} with the path of an image")
            yield _of_file(path.parent / cells[IMAGE], cells)


def _opened(path: Path) -> TextIOBase:
    packed = path.name.lower().endswith(".gz")
    return gzip.open(path, "rt", encoding="utf-8") if packed else path.open(encoding="utf-8-sig", newline="")


def _objects(file: Iterable[str], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise GenusError(f"{path}, line {line}: is no JSON ({reason(error)})") from None
        if not isinstance(found, dict):
            raise GenusError(f"{path}, line {line}: expected an object with the path of an image")
        yield line, found


def _of_file(path: Path, cells: Mapping[str, Any]) -> ImageRow:
    try:
        return ImageRow(str(path), path.read_bytes(), cells)
    except OSError as error:
        return ImageRow(str(path), b"", cells, f"cannot be read ({reason(error)})")


def _pictures(folder: Path) -> Iterator[ImageRow]:
    """Yield the images in a folder, at any depth, by path; the folder within it in which one lies is its label.

    Raises:
        GenusError: there are none.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file())
    if not paths:
        raise GenusError(f"{folder}: there are no images here, nor a table of them ({', '.join((*TABLES, *HOLDERS))})")
    for path in paths:
        within = path.relative_to(folder)
        yield _of_file(path, {IMAGE: str(within)} | ({LABEL: within.parts[0]} if within.parts[1:] else {}))


def _parquet(path: Path) -> Iterator[ImageRow]:
    """Yield the rows of a Parquet file, whose column `image` has bytes, or a table with them as of `datasets`."""
    parquet = library("pyarrow.parquet", f"{path}: reading .parquet", "data")
    pyarrow = library("pyarrow", f"{path}: reading .parquet", "data")
    try:
        with parquet.ParquetFile(path) as file:
            if IMAGE not in file.schema_arrow.names:
                raise GenusError(f"{path}: there is no column {IMAGE!r}, but {', '.join(file.schema_arrow.names)}")
            done = 0
            for batch in file.iter_batches(AT_ONCE):
                for cells in batch.to_pylist():
                    done += 1
                    held = cells.pop(IMAGE)
                    data: Any = held.get("bytes") if isinstance(held, dict) else held
                    problem = "" if isinstance(data, bytes) else "has no bytes of an image"
                    yield ImageRow(f"{path}, row {done}", b"" if problem else data, cells, problem)
    except pyarrow.ArrowException as error:
        raise GenusError(f"{path}: cannot be read as Parquet ({reason(error)})") from None


def _shard(path: Path) -> Iterator[ImageRow]:
    """Yield the images of a tar shard: files that lie together under one name, up to its first dot, are one row."""
    name, data, cells = "", b"", dict[str, Any]()

    def row() -> Iterator[ImageRow]:
        if name:
            yield ImageRow(f"{path}, {name}", data, cells, "" if data else "has no image")

    with tarfile.open(path, "r:*") as shard:
        for member in shard:
            if not member.isfile():
                continue
            folder, _, base = member.name.rpartition("/")
            stem, _, suffix = base.partition(".")
            if (key := f"{folder}/{stem}" if folder else stem) != name:
                yield from row()
                name, data, cells = key, b"", {}
            file = shard.extractfile(member)
            content = b"" if file is None else file.read()
            ending = f".{suffix.lower()}"
            if ending in PICTURES:
                data = content
            elif ending in BESIDE:
                cells[BESIDE[ending]] = content.decode("utf-8", "replace").strip()
            elif ending == ".json":
                cells |= dict(_objects([content.decode("utf-8", "replace").replace("\n", " ")], path)).get(1, {})
        yield from row()

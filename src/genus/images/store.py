"""The image store: images as the bytes of their files, and a table of their captions, which is the text of a run.

A folder with `images.bin` (all files end to end), `offsets.bin` (int64, where each begins, and the end),
`captions.jsonl` (a line for each caption, with the number of its image) and `meta.json`. A token store of the captions
keeps the numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.errors import GenusError, say
from genus.files import beside, expecting, read_json, write_json
from genus.images.decode import ImageError, decoded, resized
from genus.images.read import find, read_images
from genus.processes import cores, in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.images.read import ImageRow

FORMAT = 1
DATA, OFFSETS, CAPTIONS, META = "images.bin", "offsets.bin", "captions.jsonl", "meta.json"
TEXT, NUMBER = "caption", "image_number"
"""Fields of the table of captions."""
FOR_A_WORKER = 2_000
"""Images for which another process pays: it takes seconds to begin."""


@dataclass(frozen=True, eq=False)
class ImageStore:
    """Images by number, read through a memory map."""

    folder: Path
    offsets: NDArray[np.int64]
    data: NDArray[np.uint8]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.offsets) - 1

    def __getitem__(self, number: int) -> bytes:
        """Return the file of an image."""
        begin, end = self.offsets[number : number + 2].tolist()
        return self.data[begin:end].tobytes()

    @property
    def captions(self) -> Path:
        """The table of captions, JSON lines with the fields `TEXT` and `NUMBER`."""
        return self.folder / CAPTIONS


@lru_cache(maxsize=8)
def opened(folder: Path) -> ImageStore:
    """Open a store.

    Raises:
        GenusError: there is none, or it is damaged.
    """
    with expecting(folder / META, f"delete {folder} and prepare it again"):
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        offsets = np.fromfile(folder / OFFSETS, np.int64)
        if len(offsets) != meta["images"] + 1 or (folder / DATA).stat().st_size != offsets[-1]:
            raise GenusError(f"{folder}: is damaged; delete it and prepare it again")
        return ImageStore(folder, offsets, np.asarray(np.memmap(folder / DATA, np.uint8, "r")))


def prepare(
    sources: Iterable[Path | str],
    folder: Path,
    column: str | None,
    side: int,
    *,
    skip: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> ImageStore:
    """Write the store of the images of some sources, or open the one that was made of the same.

    Every image is decoded once, so that none fails in training. Rows that name the same file are captions of one image.

    Args:
        sources: tables, folders, Parquet files and tar shards (see `genus.images.read`).
        folder: of the store, which appears when it is complete.
        column: the captions: a text, or a list of texts; None: images are read without captions, and the table has the
            number of each.
        side: to which images will be resized.
        skip: leave images out that cannot be read, and rows without a caption, and say how many; else they are errors.
        workers: processes that decode; None: as many as pay.
        progress: called with the bytes that are written.

    Raises:
        GenusError: the folder has a store of other images; a file cannot be read; an image is broken, has no caption,
            or there is none at all.
    """
    files = find(sources)
    identity = {"format": FORMAT, "column": column, "side": side, "skip": skip, "sources": [*map(_signed, files)]}
    if (folder / META).exists():
        known = read_json(folder / META)
        if changes := [name for name, value in identity.items() if known.get(name) != value]:
            why = f"was made of other images or choices ({changes[0]})"
            raise GenusError(f"{folder}: {why}; delete it, or take another folder")
        return opened(folder)
    if workers is None:
        files_found = sum(path.stat().st_size for path in files) if files else 0
        workers = max(1, min(cores(), files_found // (FOR_A_WORKER << 15)))
    rows = in_order(partial(checked, side=side), read_images(files), workers)
    with beside(folder) as work:
        written = _write(rows, work, column, skip, progress)
        write_json(work / META, {**identity, **written.counts()})
    opened.cache_clear()
    if written.left:
        say(f"{written.left:,} rows of images are left out, such as {written.first}")
    return opened(folder)


def checked(row: ImageRow, side: int) -> ImageRow:
    """Return a row, with what is wrong with its image if anything is."""
    if not row.problem:
        try:
            resized(decoded(row.data), side)
        except ImageError as error:
            return replace(row, data=b"", problem=str(error))
    return row


def captions_of(row: ImageRow, column: str) -> list[str]:
    """Return the captions of a row, without empty ones.

    Raises:
        GenusError: it has no such column, or no texts in it.
    """
    if column not in row.cells:
        there = ", ".join(row.cells) or "none"
        raise GenusError(f"{row.name}: there is no caption in a column {column!r}, but {there}; name the column with "
                         "--field")  # fmt: skip
    cell = row.cells[column]
    found = cell if isinstance(cell, list) else [cell]
    if not all(isinstance(one, str) or one is None for one in found):
        raise GenusError(f"{row.name}: the column {column!r} holds no texts; name another with --field")
    return [one.strip() for one in found if one and one.strip()]


def _signed(path: Path) -> dict[str, Any]:
    """Return what tells a source from others: name, size and time; of a folder of images, of the folder itself."""
    status = path.stat()
    return {"name": path.name, "size": 0 if path.is_dir() else status.st_size, "mtime_ns": status.st_mtime_ns}


@dataclass
class _Written:
    """What was written of the rows."""

    ends: list[int] = field(default_factory=lambda: [0])
    captions: int = 0
    left: int = 0
    first: str = ""

    def counts(self) -> dict[str, int]:
        return {"images": len(self.ends) - 1, "captions": self.captions, "left_out": self.left}


def _write(
    rows: Iterator[ImageRow],
    folder: Path,
    column: str | None,
    skip: bool,
    progress: Callable[[int, int | None], None] | None,
) -> _Written:
    """Write the images and captions of rows into a folder."""
    found, numbers = _Written(), dict[str, int]()
    with (folder / DATA).open("wb") as data, (folder / CAPTIONS).open("w", encoding="utf-8") as table:
        for row in rows:
            problem = row.problem
            if column is None and row.name in numbers:
                continue
            texts = [] if problem else [str(len(numbers))] if column is None else captions_of(row, column)
            problem = problem or ("" if texts else "has no caption")
            if problem and not skip:
                raise GenusError(f"{row.name}: {problem}; mend or remove it, or leave such images out with --set "
                                 "examples.broken=skip")  # fmt: skip
            if problem:
                found.left, found.first = found.left + 1, found.first or f"{row.name}, which {problem}"
                continue
            if row.name not in numbers:
                numbers[row.name] = len(found.ends) - 1
                data.write(row.data)
                found.ends.append(found.ends[-1] + len(row.data))
            for text in texts:
                table.write(json.dumps({TEXT: text, NUMBER: numbers[row.name]}, ensure_ascii=False) + "\n")
            found.captions += len(texts)
            if progress is not None:
                progress(found.ends[-1], None)
    if not found.captions:
        wanted = "that can be read" if column is None else "with a caption"
        raise GenusError(f"there is no image {wanted}{f': {found.first}' if found.first else ''}")
    np.array(found.ends, np.int64).tofile(folder / OFFSETS)
    return found

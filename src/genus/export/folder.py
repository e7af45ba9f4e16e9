"""Folders that are whole at any time: written beside, and moved into place."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write into, and move what was written to `folder` when the block ends without an error.

    A new folder appears in one step. In an old one files are replaced one by one, in the order in which they were
    written. What a killed process leaves beside is removed by the next one.

    Raises:
        GenusError: the files cannot be written, as on a full disk.
    """
    work = folder.parent / f".{folder.name}.new"
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        yield work
        _publish(work, folder)
    except OSError as error:
        raise GenusError(f"{folder}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _publish(work: Path, folder: Path) -> None:
    if not folder.exists():
        work.rename(folder)
        return
    for file in sorted(work.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        file.replace(folder / file.name)

"""Files and folders that are whole at any time: written beside, and moved into place."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor


def write_text(path: Path, text: str) -> None:
    """Write a text file, making its folder: the old file stays until the new one is whole.

    Raises:
        GenusError: the file cannot be written, as on a full disk.
    """
    work = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        work.write_text(text, encoding="utf-8")
        os.replace(work, path)
    except OSError as error:
        raise GenusError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        work.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write a value as readable JSON; NaN and infinities, which JSON has no word for, are refused.

    Raises:
        GenusError: the file cannot be written.
        ValueError: a number that is not finite.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file that others may read as they may any new file; the library lets its owner alone.

    Raises:
        OSError or SafetensorError: the file cannot be written.
    """
    from safetensors.torch import save_file

    path.touch()
    mode = path.stat().st_mode  # what the umask makes of it
    save_file(dict(tensors), path, metadata={"format": "pt"})
    path.chmod(mode)


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
        if file.is_dir():
            _publish(file, folder / file.name)
        else:
            file.replace(folder / file.name)

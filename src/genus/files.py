"""Atomic writes of files and folders: written to a temporary path beside the target, then moved into place."""

from __future__ import annotations

import glob
import itertools
import json
import os
import re
import shutil
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

_numbers = itertools.count()
"""Counter in temporary file names, which keeps the threads of this process apart."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the table in a JSON file.

    Raises:
        GenusError: the file is missing or is not a JSON table.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GenusError(f"{path}: there is no such file") from None
    except (ValueError, OSError, RecursionError) as error:
        raise GenusError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(table, dict):
        raise GenusError(f"{path}: expected a JSON table")
    return table


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, creating its folder: an old file stays until the new one is complete.

    Raises:
        GenusError: the file cannot be written, as on a full disk.
    """
    work = path.with_name(f".{path.name}.{_process()}.{next(_numbers)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        work.write_text(text, encoding="utf-8")
        os.replace(work, path)
    except OSError as error:
        raise GenusError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        work.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, atomically.

    Raises:
        GenusError: the file cannot be written.
        ValueError: a number is NaN or infinite, which JSON cannot represent.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file with the permissions of the umask; the library alone lets only its owner read it.

    Raises:
        OSError or SafetensorError: the file cannot be written.
    """
    from safetensors.torch import save_file

    path.touch()
    mode = path.stat().st_mode  # permissions by the umask
    save_file(dict(tensors), path, metadata={"format": "pt"})
    path.chmod(mode)


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder, and move its content to `folder` when the block ends without an error.

    A new folder appears in one step. In an existing folder, files are replaced one by one, in the order in which they
    were written. A temporary folder that a killed process left is removed by the next call.

    Raises:
        GenusError: the files cannot be written, as on a full disk.
    """
    work = folder.parent / f".{folder.name}.{_process()}.{next(_numbers)}.new"
    try:
        _sweep(folder)
        work.mkdir(parents=True)
        yield work
        _publish(work, folder)
    except GenusError:
        raise
    except Exception as error:  # the libraries that write tensors and tokenizers have errors of their own
        if (reason := system_error(error)) is None:
            raise
        raise GenusError(f"{folder}: cannot be written: {reason}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def system_error(error: BaseException) -> str | None:
    """Return the operating system's message for an error, None where it is not a system error.

    Errors of the tokenizers and safetensors libraries contain its number: `No space left on device (os error 28)`.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    found = re.search(r"\(os error (\d+)\)|Os \{ code: (\d+)", str(error))
    return os.strerror(int(found[1] or found[2])) if found else None


def _process() -> str:
    """Return host name and process id, which are in the names of temporary files: processes may share a disk."""
    return f"{socket.gethostname()}-{os.getpid()}"


def _sweep(folder: Path) -> None:
    """Remove temporary folders that killed processes of this machine left beside a folder."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}*.new"):
        owner = re.fullmatch(rf"\.{re.escape(folder.name)}(?:\.(.+)-(\d+)\.\d+)?\.new", left.name)
        if owner and (owner[1] is None or (owner[1] == socket.gethostname() and not _is_running(int(owner[2])))):
            shutil.rmtree(left, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _publish(work: Path, folder: Path) -> None:
    if not folder.exists():
        work.rename(folder)
        return
    for file in sorted(work.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        if file.is_dir():
            _publish(file, folder / file.name)
        else:
            file.replace(folder / file.name)

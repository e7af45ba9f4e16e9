"""Atomic writes of files and folders: written to a temporary path beside the target, then moved into place."""

from __future__ import annotations

import ctypes
import errno
import glob
import itertools
import json
import os
import re
import shutil
import socket
import sys
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genus.errors import GenusError
from genus.places import is_remote, make_folder, uploaded

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from io import FileIO

    from torch import Tensor

CHECKSUMS = "crc32"
"""Key in the metadata of safetensors files that genus wrote: JSON of each tensor's name and the CRC-32 of its bytes."""
AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Arguments of Linux's `renameat2`, from <linux/fcntl.h> and <linux/fs.h>."""

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Errors of a disk without room."""

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
    except OSError as error:
        raise GenusError(f"{path}: cannot be read: {reason(error)}") from None
    except (ValueError, RecursionError) as error:
        raise GenusError(f"{path}: cannot be read as JSON: {reason(error)}") from None
    if not isinstance(table, dict):
        raise GenusError(f"{path}: expected a JSON table")
    return table


@contextmanager
def expecting(path: Path, remedy: str) -> Iterator[None]:
    """Turn any error of the block, in which a file is read and taken apart, into one line that names the file.

    Args:
        path: the file.
        remedy: what to do if its content is not as genus writes it.

    Raises:
        GenusError: the file, or another that is read there, cannot be read, or its content is not as expected.
    """
    try:
        yield
    except GenusError:
        raise
    except PermissionError as error:
        raise GenusError(f"{error.filename or path}: cannot be read: {reason(error)}") from None
    except (OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise GenusError(f"{path}: is damaged ({type(error).__name__}: {error}); {remedy}") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, creating its folder: an old file stays until the new one is complete.

    What a link points to is replaced, not the link. Into a device, a pipe or this process's own output, the text is
    written as it is.

    Raises:
        GenusError: the file cannot be written, as on a full disk, or the text has no UTF-8 form.
    """
    try:
        content = text.encode()
        if is_remote(path):
            make_folder(path.parent)
            path.write_bytes(content)
        elif is_stream(path):
            _write_stream(path, content)
        else:
            _replace(Path(os.path.realpath(path)), content)
    except OSError as error:
        raise GenusError(f"{path}: cannot be written: {reason(error)}") from None
    except UnicodeEncodeError as error:
        around = error.object[max(0, error.start - 20) : error.end + 20]
        raise GenusError(f"{path}: cannot hold a name that is not UTF-8 ({around!a}); rename that file") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a file beside another one, whose place it takes when the block ends without an error.

    Of a remote file, the one beside it is on this machine.

    Raises:
        GenusError: the file cannot be written, as on a full disk.
    """
    if is_remote(path):
        try:
            yield from uploaded(path)
        except OSError as error:
            raise GenusError(f"{path}: cannot be written: {reason(error)}") from None
        return
    target = Path(os.path.realpath(path))
    work = target.with_name(f".{target.name}.{_process()}.{next(_numbers)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield work
        os.replace(work, target)
    except OSError as error:
        raise GenusError(f"{path}: cannot be written: {reason(error)}") from None
    finally:
        work.unlink(missing_ok=True)


def is_stream(path: Path) -> bool:
    """Return whether a path is a device, a pipe, or the file that this process's output goes to: nothing to replace."""
    return path.exists() and not path.is_dir() and (not path.is_file() or _output(path) is not None)


def _output(path: Path) -> int | None:
    """Return the descriptor of standard output or standard error, if the path leads to the same file."""
    for descriptor in (1, 2):
        try:
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return descriptor
        except OSError:  # it is closed
            continue
    return None


def _write_stream(path: Path, content: bytes) -> None:
    descriptor = _output(path)
    sys.stdout.flush()
    with open(path if descriptor is None else descriptor, "wb", closefd=descriptor is None) as stream:
        stream.write(content)


def _replace(path: Path, content: bytes) -> None:
    work = path.with_name(f".{path.name}.{_process()}.{next(_numbers)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        work.write_bytes(content)
        os.replace(work, path)
    finally:
        work.unlink(missing_ok=True)


def append(file: FileIO, data: bytes) -> None:
    """Append bytes to an unbuffered file.

    Raises:
        OSError: the disk is full or fails; a part may have been written.
    """
    rest = memoryview(data)
    while rest:  # a disk that becomes full takes a part, without an error
        rest = rest[file.write(rest) :]


def append_line(path: Path, line: str) -> None:
    """Add a line, with its end, to a text file (GenusError: it cannot be written)."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        raise GenusError(f"{path}: cannot be written: {reason(error)}") from None


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines of a file, but for a last one that was cut as its writer was killed; of no file, none.

    Raises:
        GenusError: the file cannot be read.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise GenusError(f"{path}: cannot be read: {reason(error)}") from None
    if lines and not lines[-1].endswith(b"\n"):
        del lines[-1]
    return lines


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, atomically.

    Raises:
        GenusError: the file cannot be written.
        ValueError: a number is NaN or infinite, which JSON cannot represent.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file with checksums, and with the permissions of the umask (the library alone: its owner's).

    Args:
        path: the file.
        tensors: by name.
        about: further metadata.

    Raises:
        OSError or SafetensorError: the file cannot be written.
    """
    from safetensors.torch import save_file

    path.touch()
    mode = path.stat().st_mode  # permissions by the umask
    checksums = json.dumps({name: checksum(tensor) for name, tensor in sorted(tensors.items())})
    save_file(dict(tensors), path, metadata={**(about or {}), "format": "pt", CHECKSUMS: checksums})
    _sort_metadata(path)
    path.chmod(mode)


def _sort_metadata(path: Path) -> None:
    """Sort the metadata in the header of a safetensors file, which the library writes in random order."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        file.seek(8)
        file.write(json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(size))


def checksum(tensor: Tensor) -> int:
    """Return the CRC-32 of a tensor's bytes."""
    import torch

    return zlib.crc32(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


@contextmanager
def beside(folder: Path, replaced: Collection[Path] = ()) -> Iterator[Path]:
    """Yield an empty temporary folder, which takes the place of `folder` when the block ends without an error.

    A new folder appears in one step. An existing folder is exchanged with the new one in one step, where the system can
    do that (Linux, on local disks) and it is not the working directory; elsewhere its files are replaced one by one, in
    the order in which they were written. Its other files stay. A temporary folder that a killed process left is
    removed by the next call.

    Args:
        folder: where to write; of a link, the folder that it points to.
        replaced: files that do not stay, relative to the folder.

    Raises:
        GenusError: the files cannot be written, as on a full disk.
    """
    target = Path(os.path.realpath(folder))
    work = target.parent / f".{target.name}.{_process()}.{next(_numbers)}.new"
    try:
        _sweep(target)
        work.mkdir(parents=True)
        yield work
        _publish(work, target, replaced)
    except GenusError as error:  # of a file in it, which nobody knows by its temporary name
        raise type(error)(str(error).replace(str(work), str(folder))) from None
    except Exception as error:  # the libraries that write tensors and tokenizers have errors of their own
        if (found := system_error(error)) is None:
            raise
        raise GenusError(f"{folder}: cannot be written: {found}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def system_error(error: BaseException) -> str | None:
    """Return the operating system's message for an error, None where it is not a system error.

    Errors of the tokenizers and safetensors libraries contain its number: `No space left on device (os error 28)`.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    found = re.search(r"\(os error (\d+)\)|Os \{ code: (\d+)", str(error))
    if found:
        return os.strerror(int(found[1] or found[2]))
    return str(error) if isinstance(error, OSError) else None


def reason(error: BaseException) -> str:
    """Return why a file could not be read or written, in a few words of one line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, ValueError) and "set_int_max_str_digits" in str(error):
        return "a number has thousands of digits"
    return system_error(error) or (str(error).splitlines() or [type(error).__name__])[0]


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


def _publish(work: Path, folder: Path, replaced: Collection[Path]) -> None:
    if not folder.exists():
        work.rename(folder)
        return
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    stale = [name for name in replaced if not os.path.lexists(work / name)]
    if _is_working_directory(folder) or not _exchange(work, folder, stale):
        _move(work, folder)
        for name in sorted(stale, reverse=True):  # unsharded weights and indices go before the shards that they hide
            (folder / name).unlink(missing_ok=True)
    for name in {name.parent for name in stale} - {Path()}:
        if (folder / name).is_dir() and not any((folder / name).iterdir()):
            (folder / name).rmdir()


def _is_working_directory(folder: Path) -> bool:
    """Return whether this process, and so perhaps the shell that started it, is in the folder."""
    try:
        return Path.cwd().is_relative_to(folder)
    except OSError:  # it was removed
        return False


def _exchange(work: Path, folder: Path, stale: Collection[Path]) -> bool:
    """Link the other files of the old folder into the new one and exchange the two; return whether that was done."""
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "renameat2"):
        return False
    try:
        for path in _everything(folder):
            target = work / path.relative_to(folder)
            stays = path.relative_to(folder) not in stale and not os.path.lexists(target)
            if stays and (path.is_symlink() or not path.is_dir()):
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target, follow_symlinks=False)
        work.chmod(folder.stat().st_mode & 0o7777)
    except OSError:  # a disk without links, or a folder that may not be read
        return False
    return bool(libc.renameat2(AT_FDCWD, os.fsencode(work), AT_FDCWD, os.fsencode(folder), RENAME_EXCHANGE) == 0)


def _everything(folder: Path) -> Iterator[Path]:
    """Yield all that is in a folder, at any depth, before the folders that hold it are changed.

    Raises:
        OSError: a folder cannot be read, which `Path.rglob` takes for an empty one.
    """
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _everything(Path(entry.path))


def _move(work: Path, folder: Path) -> None:
    for file in sorted(work.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        if file.is_dir():
            (folder / file.name).mkdir(exist_ok=True)
            _move(file, folder / file.name)
        else:
            file.replace(folder / file.name)

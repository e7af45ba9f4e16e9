"""Places of files: paths of this machine, and of any filesystem that `fsspec` knows by a URL, such as `s3://`.

What is somewhere else is a path too (the `universal_pathlib` library), with the methods of `pathlib.Path` that need no
local disk; whoever needs more asks `is_remote`.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "hf"}
"""Protocols of stores whose files are put whole, and that have no folders to make."""
OF_ONE_PROCESS = "memory"
"""The protocol of what other processes do not see."""


def place(name: Path | str) -> Path:
    """Return the path that a name means: a URL's has the methods of a path.

    Raises:
        GenusError: the library that reads such URLs is missing.
    """
    if not isinstance(name, str) or "://" not in name:
        return Path(name) if isinstance(name, str) else name
    try:
        from upath import UPath

        return cast("Path", UPath(name))
    except (ImportError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise GenusError(f"{name}: cannot be read without another library ({reason}); pip install 'genus[cluster]', "
                         "and what fsspec names for this kind of URL") from None  # fmt: skip


def is_remote(path: Path) -> bool:
    """Return whether a path is one of another filesystem."""
    return type(path).__module__.split(".")[0] == "upath"


def of_one_process(path: Path) -> bool:
    """Return whether only this process sees what is at a path."""
    return is_remote(path) and cast("Any", path).protocol == OF_ONE_PROCESS


def files_below(folder: Path) -> list[Path]:
    """Return all files of a remote folder, at any depth, sorted by path."""
    where: Any = folder
    root = str(where.path).rstrip("/")
    return [folder / str(name)[len(root) :].lstrip("/") for name in sorted(where.fs.find(root))]


def remove(folder: Path) -> None:
    """Remove a folder and all that is in it; what is not there is removed already."""
    if not is_remote(folder):
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists():
        cast("Any", folder).fs.rm(cast("Any", folder).path, recursive=True)


def load_array(path: Path) -> NDArray[Any]:
    """Return the array of a `.npy` file, mapped from disk where it is on this machine."""
    import numpy as np

    found: NDArray[Any]
    if is_remote(path):
        found = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    else:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    return found


def array_bytes(array: NDArray[Any]) -> bytes:
    """Return the bytes of the `.npy` file of an array."""
    import numpy as np

    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def uploaded(path: Path) -> Iterator[Path]:
    """Yield the path of a local file, which becomes the remote one as soon as it is whole."""
    where: Any = path
    with TemporaryDirectory() as folder:
        work = Path(folder) / path.name
        yield work
        make_folder(path.parent)
        where.fs.put_file(str(work), where.path)


def make_folder(folder: Path) -> None:
    """Make a remote folder, where the filesystem has folders: a bucket that does not exist is not made."""
    where: Any = folder
    if where.protocol not in OBJECT_STORES:
        where.fs.makedirs(where.path, exist_ok=True)

"""Text sources: files, folders and datasets of the Hugging Face hub, with fingerprints that detect changes."""

from __future__ import annotations

import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from genus.errors import GenusError, UsageError, library
from genus.files import read_json, reason
from genus.places import files_below, is_remote, place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FORMATS = (".txt", ".jsonl", ".parquet")
COMPRESSIONS = (".bz2", ".gz", ".xz", ".zst")
MARKUP = {".html": "HTML", ".htm": "HTML", ".warc": "HTML", ".wet": None, ".xml": "wikitext"}
"""Formats that are no text yet, out of which `genus clean` takes it, and what their texts are written in: pages of the
web, archives of a crawl, archives of its text, and exports of MediaWiki."""
CURATION = "curation.json"
CURATION_PAGE = "curation.html"
"""The report of a curation and its page, which stand beside the text that it made and are no text."""
NAMED = 3
"""Most sources that a message names."""
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(?::[\w.-]+)?")

Source = Path | str
"""A file, or a dataset id of the Hugging Face hub (`org/name` or `org/name:config`)."""


class Fingerprint(TypedDict):
    """Name, size, modification time and hash of a source, by which a change is detected."""

    name: str
    size: int
    """Bytes of a file, rows of a dataset."""
    mtime_ns: int
    sha256: str
    """SHA-256 of the whole file; for a dataset, the fingerprint of the `datasets` library."""


def find(sources: Iterable[Path | str], *, raw: bool = False) -> list[Source]:
    """Return the files and dataset ids of the sources in order, folders replaced by their text files, sorted by path.

    Args:
        sources: paths, or ids.
        raw: whether the formats of `MARKUP` are taken too.

    Raises:
        UsageError: a path does not exist, or a file has another format.
        GenusError: there is no source, or a folder has no text file.
    """
    found = [file for source in sources for file in _expand(source, raw)]
    if not found:
        raise GenusError("there is no text: name a file, a folder or a dataset")
    return found


def skipped(sources: Iterable[Path | str], *, raw: bool = False) -> str:
    """Return a notice of the files in folders that `find` leaves out, counted and named; "" if there are none.

    Hidden files of other formats are not counted.
    """
    left: list[str] = []
    for path in map(place, sources):
        with _answering(path):
            left += _walk(path, raw)[1] if path.is_dir() else []
    return f"{_listed(left)}: not read ({len(left):,} in all); text is {_forms(raw)}" if left else ""


def format_of(path: Path, *, raw: bool = False) -> str | None:
    """Return the format `.txt`, `.jsonl` or `.parquet` of a file, in any case, compressed or not; None: another one.

    With `raw`, it may also be one of `MARKUP`.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS and suffixes[-2:-1] != [".parquet"]:
        suffixes = suffixes[:-1]
    return suffixes[-1] if suffixes and suffixes[-1] in (*FORMATS, *(MARKUP if raw else ())) else None


def markup_of(source: Source) -> str | None:
    """Return what the texts of a source are written in, None if they are text."""
    return None if isinstance(source, str) else MARKUP.get(format_of(source, raw=True) or "")


def fingerprint(source: Source) -> Fingerprint:
    """Return the fingerprint of a source; a file is read completely, once (1 to 2 GB/s)."""
    if isinstance(source, str):
        dataset = load_hub(source)
        return Fingerprint(name=source, size=len(dataset), mtime_ns=0, sha256=str(dataset._fingerprint))
    with _readable(source).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    size, mtime_ns = _status(source)
    return Fingerprint(name=_name(source), size=size, mtime_ns=mtime_ns, sha256=digest)


def fingerprints(sources: list[Source], workers: int) -> list[Fingerprint]:
    """Return the fingerprints of sources, read in `workers` threads."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(fingerprint, sources))


def changed(known: list[Fingerprint], sources: list[Source]) -> str | None:
    """Return a message on what changed since the fingerprints were taken, None if nothing did.

    A file with the same size and modification time counts as unchanged and is not read; otherwise contents are
    compared.
    """
    names = [_name(source) for source in sources]
    if names != [old["name"] for old in known]:
        return f"made from {_listed([old['name'] for old in known])}, not from {_listed(names)}"
    for old, source in zip(known, sources, strict=True):
        if not isinstance(source, str) and _status(_readable(source)) == (old["size"], old["mtime_ns"]):
            continue
        if fingerprint(source)["sha256"] != old["sha256"]:
            return f"made before {source} changed"
    return None


def curations(sources: Iterable[Source]) -> list[dict[str, Any]]:
    """Return of each folder of curated text among the sources its name, and what its report says for a model card.

    That is the hash of the curation, and what was done about contamination, in sentences; and the field by which it
    marks documents that belong together, if it does.
    """
    folders = dict.fromkeys(source.parent for source in sources if not isinstance(source, str))
    reports = [(folder.resolve().name, read_json(folder / CURATION)) for folder in folders if _is_curated(folder)]
    return [
        {
            "name": name,
            "hash": report["hash"],
            "contamination": report.get("contamination", []),
            **({"together": report["together"]} if "together" in report else {}),
        }
        for name, report in reports
        if "hash" in report
    ]


def _is_curated(folder: Path) -> bool:
    return (folder / CURATION).is_file()


def load_hub(name: str) -> Any:
    """Return the `train` split of a dataset `org/name[:config]` of the Hugging Face hub.

    Raises:
        GenusError: the `datasets` library is missing, or the dataset cannot be loaded.
    """
    datasets = library("datasets", f"{name}: reading it from the hub", "data")
    path, _, config = name.partition(":")
    try:
        return datasets.load_dataset(path, config or None, split="train")
    except Exception as error:  # whatever the library and the network raise
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise GenusError(f"{name}: cannot be loaded from the Hugging Face hub ({reason})") from None


def _expand(source: Path | str, raw: bool) -> list[Source]:
    path = place(source)
    with _answering(path):
        return _files_of(source, path, raw)


@contextmanager
def _answering(path: Path) -> Iterator[None]:
    """Turn whatever another filesystem raises, of networks, names and rights, into one line (GenusError)."""
    try:
        yield
    except GenusError:
        raise
    except Exception as error:
        if not is_remote(path):
            raise
        raise GenusError(f"{path}: cannot be read: {reason(error)}") from None


def _files_of(source: Path | str, path: Path, raw: bool) -> list[Source]:
    if path.is_dir():
        files, _ = _walk(path, raw)
        if not files:
            formats = ", ".join((*FORMATS, *(MARKUP if raw else ())))
            raise GenusError(f"{path}: there is no {formats} file in this folder (also with {', '.join(COMPRESSIONS)})")
        return [*files]
    if path.exists():
        if not path.is_file():
            raise UsageError(f"{path}: is neither a file nor a folder; write its text to a file first")
        if format_of(path, raw=raw) is None:
            if format_of(path, raw=True) is not None:
                raise UsageError(f"{path}: is no text yet; take it out with `genus clean {path.name} --out FOLDER`")
            raise UsageError(f"{path}: expected {_forms(raw)}")
        return [path]
    if isinstance(source, str) and format_of(path, raw=True) is None and HUB_ID.fullmatch(source):
        return [source]
    raise UsageError(f"{source}: there is no such file or folder")


def _forms(raw: bool) -> str:
    return f"{', '.join((*FORMATS, *(MARKUP if raw else ())))}, also compressed ({', '.join(COMPRESSIONS)})"


def _walk(folder: Path, raw: bool) -> tuple[list[Path], list[str]]:
    """Return the text files under a folder, sorted by path, and the names of what else is there and is not read.

    Links to folders are not followed, since they may lead in circles. Of folders that may not be read, the reason
    follows the name.

    Raises:
        GenusError: the folder itself cannot be read.
    """
    if is_remote(folder):
        return _parted(files_below(folder), raw)
    files: list[Path] = []
    unread: list[OSError] = []
    left: list[Path] = []
    for where, folders, names in os.walk(folder, onerror=unread.append):
        left += [path for path in (Path(where, name) for name in folders) if path.is_symlink()]
        for path in (Path(where, name) for name in names):
            hidden = path.name.startswith(".") or path.name in (CURATION, CURATION_PAGE)
            text = format_of(path, raw=raw) is not None
            if text and not hidden and path.is_file():
                files.append(path)
            elif text or not hidden:
                left.append(path)
    if own := [error for error in unread if Path(error.filename) == folder]:
        raise GenusError(f"{folder}: cannot be read: {reason(own[0])}")
    return sorted(files), sorted([*map(str, left), *(f"{error.filename} ({reason(error)})" for error in unread)])


def _name(source: Source) -> str:
    """Return the name by which a source is known, with bytes that are no UTF-8 written as escapes."""
    name = source if isinstance(source, str) else source.name
    return os.fsencode(name).decode(errors="backslashreplace")


def _parted(paths: list[Path], raw: bool) -> tuple[list[Path], list[str]]:
    """Return the text files among those of a remote folder, and the names of the others."""
    reports = (CURATION, CURATION_PAGE)
    shown = [path for path in paths if not path.name.startswith(".") and path.name not in reports]
    files = [path for path in shown if format_of(path, raw=raw) is not None]
    return files, [str(path) for path in shown if format_of(path, raw=raw) is None]


def _status(path: Path) -> tuple[int, int]:
    """Return size and modification time in nanoseconds; 0 where a filesystem does not tell the time."""
    status = path.stat()
    if is_remote(path):
        return status.st_size, int(getattr(status, "st_mtime", 0) * 1e9)
    return status.st_size, status.st_mtime_ns


def _readable(path: Path) -> Path:
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise GenusError(f"{path}: cannot be read: {reason(error)}") from None


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")

"""Task files: found by name, in the package and in a folder of one's own, and read."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from genus.errors import UsageError, near
from genus.files import reason
from genus.part.renames import SCHEMA
from genus.prompts import PromptedTask

OWN = Path(__file__).parent / "tasks"
"""The folder of the tasks that come with the package."""
READERS = {".json": json.loads, ".toml": tomllib.loads}


def names(folder: Path | None = None) -> dict[str, Path]:
    """Return the file of each task by name, those of a folder before the package's own of the same name.

    Raises:
        UsageError: there is no such folder, or it has two tasks of a name.
    """
    found = _scan(OWN)
    return found if folder is None else {**found, **_scan(folder)}


def load(name: str | Path, folder: Path | None = None) -> PromptedTask:
    """Return a task by name or from a file.

    Args:
        name: of a task, or the path of a `.toml` or `.json` file.
        folder: further tasks, each a file in it; its name is the file's without the ending.

    Raises:
        UsageError: there is no such task (the message names similar ones), or its file cannot be read as one.
    """
    path = Path(name)
    if path.suffix not in READERS:
        known = names(folder)
        if str(name) not in known:
            raise UsageError(f"--prompts: there is no task {str(name)!r}.{near(str(name), list(known))}")
        path = known[str(name)]
    return read(path)


def read(path: Path) -> PromptedTask:
    """Return the task in a file.

    Raises:
        UsageError: the file cannot be read, or holds no task.
    """
    try:
        table = READERS[path.suffix](path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {reason(error)}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as {path.suffix[1:].upper()}: {reason(error)}") from None
    try:
        return PromptedTask.from_json({"schema": SCHEMA, **table} if isinstance(table, dict) else table)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _scan(folder: Path) -> dict[str, Path]:
    """Return the task files of a folder by the name of each."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder of tasks")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix not in READERS:
            continue
        if path.stem in found:
            raise UsageError(f"{folder}: {found[path.stem].name} and {path.name} have the same name; rename one")
        found[path.stem] = path
    return found

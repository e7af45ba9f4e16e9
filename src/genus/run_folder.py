"""Run folders: detection of their content, checks against overwriting, locking between processes, pinned recipe."""

from __future__ import annotations

import errno
import os
import re
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from genus.errors import GenusError, UsageError
from genus.files import read_json, reason, write_json
from genus.part import Part, diff

try:
    import fcntl
except ImportError:  # Windows, where a folder is not locked
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

P = TypeVar("P", bound=Part)
Content = Literal["nothing", "a pretraining run", "a fine-tuning", "a model", "a tokenizer", "other files"]
"""What a folder can hold, as error messages call it."""
Purpose = Literal["pretraining", "fine-tuning", "a model", "a tokenizer alone", "an evaluation of code",
                  "a Triton repository", "a Triton model", "an OpenCLIP model", "a folder of a container",
                  "a text with canaries", "a report of memorization"]  # fmt: skip
"""What a command wants to write into a folder."""

LOCK = ".lock"
"""Lock file of the process that writes into the folder. The operating system releases the lock when the process ends
in any way; the file of a process that was killed stays."""
GROWING = "budget.amount"
"""The only choice that may change when a run is resumed; it may only grow."""
TAKEN = {errno.EACCES, errno.EAGAIN}


class RunFolder:
    """A folder for a command's output, checked before anything is written.

    A pretraining run has `recipe.json`, `run.json`, `metrics.jsonl`, `tokenizer/`, `store/`, `checkpoints/` and
    `model/`; fine-tuning has `report.json`, `seed-<n>/` and `model/`.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @property
    def recipe(self) -> Path:
        """Path of `recipe.json`, the choices of a pretraining run."""
        return self.path / "recipe.json"

    def content(self) -> Content:
        """Return what the folder holds, judged by its file names."""
        names = {path.name for path in self.path.iterdir()} - {LOCK} if self.path.is_dir() else set()
        if "report.json" in names or any(name.startswith("seed-") for name in names):
            return "a fine-tuning"
        if names & {"config.json", "adapter_config.json"}:
            return "a model"
        if names & {"recipe.json", "checkpoints", "metrics.jsonl"}:
            return "a pretraining run"
        if names & {"tokenizer.json", "tokens.json"}:
            return "a tokenizer"
        return "other files" if names else "nothing"

    def checkpoint_steps(self) -> list[int]:
        """Return the steps of all checkpoints in ascending order.

        Raises:
            GenusError: their folder cannot be read; a run that seems to have none would begin anew.
        """
        folder = self.path / "checkpoints"
        try:
            names = os.listdir(folder) if folder.is_dir() else []
        except OSError as error:
            raise GenusError(f"{folder}: cannot be read: {reason(error)}") from None
        return sorted(int(found[1]) for found in (re.fullmatch(r"checkpoint-(\d+)", name) for name in names) if found)

    def has_started(self) -> bool:
        """Return whether the run has a checkpoint or a model; until then its choices may change."""
        return bool(self.checkpoint_steps()) or (self.path / "model").exists()

    def check(self, purpose: Purpose) -> None:
        """Check that output for this purpose would not replace the output of another command.

        Raises:
            UsageError: it would; or the path is not a folder and cannot become one.
        """
        assert purpose in get_args(Purpose)
        for part in (self.path, *self.path.parents):
            if part.exists() and not part.is_dir():
                raise UsageError(f"{self.path}: {part} is a file, not a folder; take another folder")
        found = self.content()
        if purpose == "pretraining" and found in {"a fine-tuning", "a model"}:
            raise UsageError(f"{self.path}: holds {found}, whose model would be replaced; take another folder")
        if purpose == "fine-tuning" and found in {"a pretraining run", "a model"}:
            raise UsageError(f"{self.path}: holds {found}, whose model would be replaced; take another folder")
        if purpose == "fine-tuning" and found != "a fine-tuning" and (self.path / "model").exists():
            raise UsageError(
                f"{self.path / 'model'}: is not from fine-tuning and would be replaced; take another folder"
            )

    def refuse_unless_empty(self, purpose: Purpose) -> None:
        """Check that the path is free, for a command that writes into new folders only.

        Raises:
            UsageError: the path is a file or a folder that is not empty.
        """
        if self.path.exists() and (not self.path.is_dir() or self.content() != "nothing"):
            raise UsageError(f"{self.path}: is not empty, and not {purpose} that genus wrote; write to a new folder")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Create the folder if needed, and lock it against other processes while the block runs.

        Raises:
            UsageError: another process holds the lock.
            GenusError: the folder cannot be created.
        """
        handle = self._open()
        try:
            self._take(handle)
            while not self._is_ours(handle):  # its last owner has removed the file meanwhile
                os.close(handle)
                handle = self._open()
                self._take(handle)
            yield
        finally:
            self._clear(handle)
            os.close(handle)

    def _open(self) -> int:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise GenusError(f"{self.path}: cannot be written: {reason(error)}") from None

    def _is_ours(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), os.stat(self.path / LOCK))
        except OSError:
            return False

    def _clear(self, handle: int) -> None:
        """Remove the lock file, unless it is another process's, and a folder that is still empty."""
        try:
            if os.pread(handle, 200, 0) == _owner() and self._is_ours(handle):
                (self.path / LOCK).unlink()
                if self.content() == "nothing":
                    self.path.rmdir()
        except OSError:  # another process has written meanwhile, or the disk fails
            pass

    def _take(self, handle: int) -> None:
        """Lock an open file and write its owner into it: a POSIX record lock, which forked workers do not inherit."""
        if fcntl is None:
            return
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in TAKEN:  # a file system without locks
                return
            who = os.read(handle, 200).decode(errors="replace").strip() or "another process"
            raise UsageError(f"{self.path}: is in use by {who}; wait until it ends, or take another folder") from None
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, _owner(), 0)
        except OSError:  # a full disk: the lock holds without its owner's name
            pass

    def pin(self, choices: Part, *, resume: bool = False) -> str:
        """Write the choices of a run to `recipe.json`; if training has started, check that they are the same.

        A resumed run may have a larger budget.

        Returns:
            A line that describes the change, "" where there is none.

        Raises:
            UsageError: the folder holds a run of other choices.
            GenusError: `recipe.json` is damaged or cannot be written.
        """
        if not self.recipe.exists() or not self.has_started():
            self._write(choices)
            return ""
        changes = diff(self.choices(type(choices)), choices)
        if resume and only_budget_grows(changes):
            self._write(choices)
            ((_, before, after),) = changes
            return (
                f"{self.path}: the budget was {before:g} and is {after:g}; the learning rate is a function of the "
                "fraction that is spent, and goes on from where the larger budget has it"
            )
        if changes:
            told = "; ".join(f"{where} was {old}, not {new}" for where, old, new in changes[:3])
            raise UsageError(f"{self.path}: holds a run of another recipe ({told}); take another folder")
        return ""

    def _write(self, choices: Part) -> None:
        """Write the choices unless they are already there: of several processes, only the first writes."""
        value = choices.written()
        try:
            same = read_json(self.recipe) == value
        except GenusError:
            same = False
        if not same:
            write_json(self.recipe, value)

    def choices(self, kind: type[P]) -> P:
        """Return the choices in `recipe.json`.

        Raises:
            GenusError: it is missing or damaged.
        """
        table = read_json(self.recipe)
        try:
            return kind.from_json(table)
        except UsageError as error:
            raise GenusError(f"{self.recipe}: is damaged ({error}); put back that of the newest checkpoint") from None


def _owner() -> bytes:
    """Return the content of the lock file: process id and host name of this process."""
    return f"process {os.getpid()} on {socket.gethostname()}\n".encode()


def only_budget_grows(changes: list[tuple[str, object, object]]) -> bool:
    """Return whether the only difference between two recipes is a larger budget."""
    if [where for where, _, _ in changes] != [GROWING]:
        return False
    ((_, before, after),) = changes
    return isinstance(before, int | float) and isinstance(after, int | float) and after > before

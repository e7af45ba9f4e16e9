"""Checkpoints, written atomically: to a temporary folder, checksummed and renamed; only then are the oldest removed.

A run's folder holds `checkpoints/checkpoint-<step>/` with

* `model.safetensors`: the learner's parameters and buffers,
* `optimizer.safetensors`: the optimizer's tensors, as `<index of the parameter>.<name>`,
* `memory.safetensors`: the memory of a recurrent network, if any, as `<task step>.<place in the step>.<name>`, and what
  data that depend on the weights were made of, as `feed.<name>`, and the scales of float16's gradients, as
  `scale.<name>`,
* `state.json`: the progress, and the optimizer state that is not tensors,
* `recipe.json`: the choices of the run,
* `manifest.json`: the SHA-256 of each of these files.

Where processes hold pieces of the tensors, each writes those that it owns, into `model-00001-of-00004.safetensors` and
so on (`tensor_files.py`); the first then writes the manifest and renames the folder. Any number of processes reads
them, in whatever pieces. PyTorch's `distributed.checkpoint` is not used: it pickles its metadata, and in its form with
safetensors it still plans by collectives of pickled objects, which would run beside those of training when it writes in
the background, and it neither checksums files nor syncs them.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from genus.errors import GenusError, UsageError
from genus.files import reason
from genus.part import Part, diff
from genus.run_folder import RunFolder, only_budget_grows
from genus.train.progress import Progress
from genus.train.snapshot import (
    MEMORY,
    MODEL,
    OPTIMIZER,
    Snapshot,
    restore,
    settings_of,
    sha256,
    sync,
    taken_alone,
    taken_together,
    write_document,
)
from genus.train.tensor_files import SavedTensors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor
    from torch.optim import Optimizer as TorchOptimizer

    from genus.objectives import Learner
    from genus.train.notes import Notes

Json = dict[str, Any]

MANIFEST = "manifest.json"


class Checkpoints:
    """The checkpoints of one run; the newest `keep` are kept."""

    def __init__(
        self, run_folder: Path, keep: int, choices: Part | None, text: str = "", notes: Notes | None = None
    ) -> None:
        """Name the folder.

        Args:
            run_folder: the folder of the run.
            keep: number of checkpoints that stay.
            choices: of the run.
            text: its fingerprint.
            notes: of processes that hold pieces of the tensors, and write them together; None: one has all.
        """
        self.folder, self.keep, self.choices, self.text = run_folder / "checkpoints", keep, choices, text
        self.notes = notes

    def steps(self) -> list[int]:
        """Return the steps of all checkpoints in ascending order."""
        return RunFolder(self.folder.parent).checkpoint_steps()

    def path(self, step: int) -> Path:
        """Return the folder of the checkpoint at a step."""
        return self.folder / f"checkpoint-{step}"

    def last(self) -> str:
        """Return a phrase for error messages that names the newest checkpoint."""
        steps = self.steps()
        return f"resume from {self.path(steps[-1])}" if steps else "no checkpoint was written yet"

    def snapshot(
        self, learner: Learner, optimizer: TorchOptimizer, progress: Progress, memory: dict[str, Tensor]
    ) -> Snapshot:
        """Return a copy of all content of a checkpoint, so that training can continue while it is written."""
        documents: dict[str, Json] = {
            "state.json": {"progress": asdict(progress), "optimizer": settings_of(optimizer), "text": self.text}
        }
        if self.choices is not None:
            documents["recipe.json"] = self.choices.written()
        if self.notes is None:
            return Snapshot(progress.step, taken_alone(learner, optimizer, memory), documents)
        rank, size = self.notes.rank, self.notes.size
        pieces = taken_together(learner, optimizer, memory, rank, size)
        return Snapshot(progress.step, pieces, documents if rank == 0 else {})

    def write(self, snapshot: Snapshot) -> None:
        """Write a checkpoint and remove the oldest; where processes hold pieces, all of them must call this.

        Raises:
            GenusError: the disk of a process is full or fails; the earlier checkpoints are unchanged.
        """
        target, work = self.path(snapshot.step), self.folder / ".partial"
        if self.notes is None:
            trouble = _tried(partial(_begin, work))
            trouble = trouble or _tried(lambda: _finish(work, target, snapshot.write(work)))
        else:
            trouble = self._write_together(snapshot, work, target, self.notes)
        if trouble:
            shutil.rmtree(work, ignore_errors=True)
            raise GenusError(f"{target}: the checkpoint cannot be written ({trouble}); {self.last()}")
        if self.notes is None or self.notes.rank == 0:
            self.prune()

    def _write_together(self, snapshot: Snapshot, work: Path, target: Path, notes: Notes) -> str:
        """Write the pieces of all processes, and return what went wrong in any of them, the same in all."""
        digests: dict[str, str] = {}

        def own() -> None:
            digests.update(snapshot.write(work))

        trouble = notes.from_first(f"{snapshot.step}/begin", lambda: _tried(partial(_begin, work)))
        trouble = trouble or _tried(own)
        told = [
            json.loads(text) for text in notes.from_each(f"{snapshot.step}/written", json.dumps([trouble, digests]))
        ]
        wrong = [f"process {rank}: {text}" for rank, (text, _) in enumerate(told) if text]
        every = {name: digest for _, own_files in told for name, digest in own_files.items()}
        ended = partial(_tried, partial(_finish, work, target, every))
        return notes.from_first(f"{snapshot.step}/end", lambda: wrong[0] if wrong else ended())

    def prune(self) -> None:
        """Remove all but the newest `keep` checkpoints, including those that a killed process left half removed."""
        for step in self.steps()[: -self.keep]:
            shutil.rmtree(self.path(step))

    def newest(self, log: Callable[[str], None]) -> Path | None:
        """Return the newest intact checkpoint, None where there is no checkpoint; damaged ones are reported to `log`.

        Raises:
            GenusError: there are checkpoints, and none of them is intact.
        """
        for step in reversed(self.steps()):
            why = fault(self.path(step))
            if why is None:
                return self.path(step)
            log(f"warning: {self.path(step)}: {why}; taking the one before")
        if self.steps():
            raise GenusError(f"{self.folder}: none of the checkpoints is whole; start anew in another folder")
        return None

    def set_aside_after(self, step: int) -> None:
        """Rename the damaged checkpoints after the one that a run resumes from, whose steps are trained again."""
        for newer in self.steps():
            if newer > step:
                broken = self.folder / f"broken-{newer}"
                shutil.rmtree(broken, ignore_errors=True)
                self.path(newer).rename(broken)

    def read(self, path: Path, learner: Learner, optimizer: TorchOptimizer) -> Progress:
        """Load an intact checkpoint into the learner and the optimizer, and return its progress.

        Raises:
            UsageError: the checkpoint was made with other choices, which the message names, or on other text.
        """
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        if self.choices is not None:
            _compare(path, self.choices)
        if state["text"] != self.text:
            raise UsageError(f"{path}: made on other text; resume with what it began with, or start in another folder")
        with SavedTensors(path, MODEL) as model, SavedTensors(path, OPTIMIZER) as moments:
            if model.shapes.keys() != learner.held().keys():
                names = ", ".join(sorted(model.shapes.keys() ^ learner.held().keys())[:3])
                raise UsageError(f"{path}: holds another model; only one of the two has {names}; "
                                 "start in another folder")  # fmt: skip
            restore(learner, optimizer, model, moments, state["optimizer"])
        return Progress(**state["progress"])


def memory(path: Path) -> dict[str, Tensor]:
    """Return the recurrent memory of an intact checkpoint; empty where the network has none."""
    with SavedTensors(path, MEMORY) as saved:
        return {name: saved.whole(name) for name in saved}


def _tried(work: Callable[[], None]) -> str:
    """Do something with files, and return what went wrong in a few words; empty: nothing."""
    try:
        work()
    except (OSError, SafetensorError) as error:
        return reason(error)
    return ""


def _begin(work: Path) -> None:
    """Make an empty folder."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)


def _finish(work: Path, target: Path, digests: dict[str, str]) -> None:
    """Write the manifest, and rename the folder, surely on disk."""
    write_document(work / MANIFEST, dict(sorted(digests.items())))
    sync(work / MANIFEST)
    sync(work)
    work.rename(target)
    sync(target.parent)


def fault(path: Path) -> str | None:
    """Return how a checkpoint is damaged, None if all files match the manifest."""
    try:
        manifest: dict[str, str] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest.keys() != {file.name for file in path.iterdir()} - {MANIFEST}:
            return "manifest.json names other files than are here"
        changed = [name for name, digest in manifest.items() if sha256(path / name) != digest]
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        return f"is incomplete ({reason(error)})"
    return f"{changed[0]} is not as it was written" if changed else None


def _compare(path: Path, choices: Part) -> None:
    """Raise a UsageError if the checkpoint was made with other choices; the budget may grow."""
    saved = type(choices).from_json(json.loads((path / "recipe.json").read_text(encoding="utf-8")))
    if (changed := diff(saved, choices)) and not only_budget_grows(changed):
        names = ", ".join(f"{name} was {before!r} and is {now!r}" for name, before, now in changed)
        raise UsageError(f"{path}: made by another recipe: {names}; resume with that one, or start in another folder")

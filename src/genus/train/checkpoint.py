"""Checkpoints, written atomically: to a temporary folder, checksummed and renamed; only then are the oldest removed.

A run's folder holds `checkpoints/checkpoint-<step>/` with

* `model.safetensors`: the learner's parameters and buffers,
* `optimizer.safetensors`: the optimizer's tensors, as `<index of the parameter>.<name>`,
* `memory.safetensors`: the memory of a recurrent network, if any, as `<task step>.<place in the step>.<name>`,
* `state.json`: the progress, and the optimizer state that is not tensors,
* `recipe.json`: the choices of the run,
* `manifest.json`: the SHA-256 of each of these files.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from genus.errors import GenusError, UsageError
from genus.files import reason, write_tensors
from genus.part import Part, diff
from genus.run_folder import RunFolder, only_budget_grows
from genus.train.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch.optim import Optimizer as TorchOptimizer

    from genus.objectives import Learner

Json = dict[str, Any]

MODEL, MEMORY = "model.safetensors", "memory.safetensors"


@dataclass(frozen=True)
class Snapshot:
    """The content of a checkpoint by file name, copied to CPU memory."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    documents: dict[str, Json]


class Checkpoints:
    """The checkpoints of one run; the newest `keep` are kept."""

    def __init__(self, run_folder: Path, keep: int, choices: Part | None, text: str = "") -> None:
        self.folder, self.keep, self.choices, self.text = run_folder / "checkpoints", keep, choices, text

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
        whole = optimizer.state_dict()
        moments: dict[str, Tensor] = {}
        plain: dict[str, Json] = {}
        for number, values in whole["state"].items():
            moments |= {f"{number}.{name}": value for name, value in values.items() if isinstance(value, Tensor)}
            plain[str(number)] = {name: value for name, value in values.items() if not isinstance(value, Tensor)}
        tensors = {MODEL: _copied(learner.tensors()), "optimizer.safetensors": _copied(moments)}
        if memory:
            tensors[MEMORY] = _copied(memory)
        kept = {"state": plain, "param_groups": copy.deepcopy(whole["param_groups"])}
        documents: dict[str, Json] = {
            "state.json": {"progress": asdict(progress), "optimizer": kept, "text": self.text}
        }
        if self.choices is not None:
            documents["recipe.json"] = self.choices.written()
        return Snapshot(progress.step, tensors, documents)

    def write(self, snapshot: Snapshot) -> None:
        """Write a checkpoint and remove the oldest.

        Raises:
            GenusError: the disk is full or fails; the earlier checkpoints are unchanged.
        """
        target, partial = self.path(snapshot.step), self.folder / ".partial"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            _fill(partial, snapshot)
            partial.rename(target)
            _sync(self.folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise GenusError(f"{target}: the checkpoint cannot be written ({reason(error)}); {self.last()}") from None
        self.prune()

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
        own = learner.tensors()
        saved = load_file(path / MODEL)
        if saved.keys() != own.keys():
            names = ", ".join(sorted(saved.keys() ^ own.keys())[:3])
            raise UsageError(f"{path}: holds another model; only one of the two has {names}; start in another folder")
        with torch.no_grad():
            for name, tensor in saved.items():
                own[name].copy_(tensor)
        kept = {int(number): values for number, values in state["optimizer"]["state"].items()}
        for key, tensor in load_file(path / "optimizer.safetensors").items():
            number, name = key.split(".", 1)
            kept[int(number)][name] = tensor
        optimizer.load_state_dict({"state": kept, "param_groups": state["optimizer"]["param_groups"]})
        return Progress(**state["progress"])


def memory(path: Path) -> dict[str, Tensor]:
    """Return the recurrent memory of an intact checkpoint; empty where the network has none."""
    return load_file(path / MEMORY) if (path / MEMORY).exists() else {}


def _fill(folder: Path, snapshot: Snapshot) -> None:
    for name, tensors in snapshot.tensors.items():
        write_tensors(folder / name, tensors)
    for name, document in snapshot.documents.items():
        _write_json(folder / name, document)
    files = sorted(folder.iterdir())
    for file in files:
        _sync(file)
    _write_json(folder / "manifest.json", {file.name: _sha256(file) for file in files})
    _sync(folder / "manifest.json")
    _sync(folder)


def _copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}


def fault(path: Path) -> str | None:
    """Return how a checkpoint is damaged, None if all files match the manifest."""
    try:
        manifest: dict[str, str] = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        if manifest.keys() != {file.name for file in path.iterdir()} - {"manifest.json"}:
            return "manifest.json names other files than are here"
        changed = [name for name, digest in manifest.items() if _sha256(path / name) != digest]
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        return f"is incomplete ({reason(error)})"
    return f"{changed[0]} is not as it was written" if changed else None


def _compare(path: Path, choices: Part) -> None:
    """Raise a UsageError if the checkpoint was made with other choices; the budget may grow."""
    saved = type(choices).from_json(json.loads((path / "recipe.json").read_text(encoding="utf-8")))
    if (changed := diff(saved, choices)) and not only_budget_grows(changed):
        names = ", ".join(f"{name} was {before!r} and is {now!r}" for name, before, now in changed)
        raise UsageError(f"{path}: made by another recipe: {names}; resume with that one, or start in another folder")


def _write_json(path: Path, value: Json) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Call fsync on a file or on a folder's entries."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Checkpoints: whole or absent. Written beside, checksummed, renamed, and only then are the oldest removed.

A run's folder holds `checkpoints/checkpoint-<step>/` with

* `model.safetensors`: the learner's parameters and buffers,
* `optimizer.safetensors`: the optimizer's tensors, as `<number of the parameter>.<name>`,
* `memory.safetensors`: what the network remembers, as `<turn>.<place in the step>.<name>`, if it remembers anything,
* `state.json`: the progress, and what of the optimizer is no tensor,
* `recipe.json`: the choices that made it,
* `manifest.json`: the SHA-256 of each of these.
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
from genus.files import system_error, write_tensors
from genus.part import Part, diff
from genus.run_folder import RunFolder, only_budget_grows
from genus.train.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch.optim import Optimizer as TorchOptimizer

    from genus.objectives import Learner

Json = dict[str, Any]

MEMORY = "memory.safetensors"


@dataclass(frozen=True)
class Snapshot:
    """The content of a checkpoint, by the names of its files, in memory of its own."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    documents: dict[str, Json]


class Checkpoints:
    """The checkpoints of one run, of which the newest `keep` stay."""

    def __init__(self, run_folder: Path, keep: int, choices: Part | None, text: str = "") -> None:
        self.folder, self.keep, self.choices, self.text = run_folder / "checkpoints", keep, choices, text

    def steps(self) -> list[int]:
        """Return the step of every checkpoint, rising."""
        return RunFolder(self.folder.parent).checkpoint_steps()

    def path(self, step: int) -> Path:
        """Return the folder of the checkpoint of a step."""
        return self.folder / f"checkpoint-{step}"

    def last(self) -> str:
        """Return a remark on what can be resumed from."""
        steps = self.steps()
        return f"resume from {self.path(steps[-1])}" if steps else "no checkpoint was written yet"

    def snapshot(
        self, learner: Learner, optimizer: TorchOptimizer, progress: Progress, memory: dict[str, Tensor]
    ) -> Snapshot:
        """Return all that a checkpoint holds, copied, so that training can go on while it is written."""
        whole = optimizer.state_dict()
        moments: dict[str, Tensor] = {}
        plain: dict[str, Json] = {}
        for number, values in whole["state"].items():
            moments |= {f"{number}.{name}": value for name, value in values.items() if isinstance(value, Tensor)}
            plain[str(number)] = {name: value for name, value in values.items() if not isinstance(value, Tensor)}
        tensors = {"model.safetensors": _copied(learner.tensors()), "optimizer.safetensors": _copied(moments)}
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
        """Write a checkpoint and prune the oldest.

        Raises:
            GenusError: the disk is full or refuses; the earlier checkpoints are as they were.
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
        """Remove the oldest checkpoints, those that a kill left half removed too."""
        for step in self.steps()[: -self.keep]:
            shutil.rmtree(self.path(step))

    def newest(self, log: Callable[[str], None]) -> Path | None:
        """Return the newest whole checkpoint, None where there is no checkpoint at all; `log` hears of broken ones.

        Raises:
            GenusError: there are checkpoints, and none of them is whole.
        """
        for step in reversed(self.steps()):
            fault = _fault(self.path(step))
            if fault is None:
                return self.path(step)
            log(f"warning: {self.path(step)}: {fault}; taking the one before")
        if self.steps():
            raise GenusError(f"{self.folder}: none of the checkpoints is whole; start anew in another folder")
        return None

    def set_aside_after(self, step: int) -> None:
        """Rename what is newer than the checkpoint a run goes on from: it was broken, and its steps are made again."""
        for newer in self.steps():
            if newer > step:
                broken = self.folder / f"broken-{newer}"
                shutil.rmtree(broken, ignore_errors=True)
                self.path(newer).rename(broken)

    def read(self, path: Path, learner: Learner, optimizer: TorchOptimizer) -> Progress:
        """Put the tensors of a whole checkpoint into the learner and the optimizer and return its progress.

        Raises:
            UsageError: the checkpoint was made by other choices, which it names, or on other text.
        """
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        if self.choices is not None:
            _compare(path, self.choices)
        if state["text"] != self.text:
            raise UsageError(f"{path}: made on other text; resume with what it began with, or start in another folder")
        own = learner.tensors()
        saved = load_file(path / "model.safetensors")
        if saved.keys() != own.keys():
            names = ", ".join(sorted(saved.keys() ^ own.keys())[:3])
            raise UsageError(f"{path}: holds another model; only one of the two has {names}")
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
    """Return the memory of a whole checkpoint; empty where the network had none."""
    return load_file(path / MEMORY) if (path / MEMORY).exists() else {}


def reason(error: Exception) -> str:
    """Return why the system refused, in a few words."""
    return system_error(error) or str(error).splitlines()[0]


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


def _fault(path: Path) -> str | None:
    """Return what is wrong with a checkpoint, None if it is as it was written."""
    try:
        manifest: dict[str, str] = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        changed = [name for name, digest in manifest.items() if _sha256(path / name) != digest]
    except (OSError, ValueError) as error:
        return f"is incomplete ({reason(error)})"
    return f"{changed[0]} is not as it was written" if changed else None


def _compare(path: Path, choices: Part) -> None:
    """Refuse a checkpoint made by other choices."""
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
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

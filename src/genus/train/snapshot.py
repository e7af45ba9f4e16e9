"""The state of a run in memory: what a checkpoint holds, or this process's pieces of it, as copies on the CPU."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genus.optim.pieces import Piece, held, piece_of
from genus.train.tensor_files import TensorFile

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn
    from torch.optim import Optimizer as TorchOptimizer

    from genus.objectives import Learner
    from genus.train.tensor_files import SavedTensors

Json = dict[str, Any]
MODEL, OPTIMIZER, MEMORY = "model", "optimizer", "memory"
"""Stems of the files of tensors."""


@dataclass(frozen=True)
class Snapshot:
    """The content of a checkpoint by file name, copied to CPU memory."""

    step: int
    tensors: dict[str, TensorFile]
    documents: dict[str, Json]

    def write(self, folder: Path) -> dict[str, str]:
        """Write all files, surely to disk, and return the SHA-256 of each (OSError or SafetensorError on failure)."""
        names = [name for name, file in self.tensors.items() if file.tensors]
        for name in names:
            self.tensors[name].write(folder / name)
        for name, document in self.documents.items():
            write_document(folder / name, document)
        names += self.documents
        for name in names:
            sync(folder / name)
        return {name: sha256(folder / name) for name in names}


def taken_alone(learner: Learner, optimizer: TorchOptimizer, memory: dict[str, Tensor]) -> dict[str, TensorFile]:
    """Return the tensors of a run of which each process has all, by file name."""
    files = {name: TensorFile() for name in (MODEL, OPTIMIZER, MEMORY)}
    for name, tensor in learner.held().items():
        files[MODEL].add(name, tensor)
    for name, tensor, _, _ in _state(optimizer):
        files[OPTIMIZER].add(name, tensor)
    for name, tensor in memory.items():
        files[MEMORY].add(name, tensor)
    return {f"{name}.safetensors": file for name, file in files.items() if name != MEMORY or memory}


def taken_together(
    learner: Learner, optimizer: TorchOptimizer, memory: dict[str, Tensor], rank: int, size: int
) -> dict[str, TensorFile]:
    """Return the pieces of tensors that this process writes, by file name; what all have is the first one's."""
    files = {name: TensorFile() for name in (MODEL, OPTIMIZER, MEMORY)}
    for name, tensor in learner.held().items():
        _add(files[MODEL], name, held(tensor), piece_of(tensor), rank)
    for name, tensor, weight, averaged in _state(optimizer):
        piece = piece_of(weight) if tensor.ndim else None
        _add(
            files[OPTIMIZER], name, tensor, piece and piece.averaged(averaged) if averaged is not None else piece, rank
        )
    for name, tensor in memory.items() if rank == 0 else ():
        files[MEMORY].add(name, tensor)
    return {f"{name}-{rank + 1:05}-of-{size:05}.safetensors": file for name, file in files.items()}


def _add(file: TensorFile, name: str, own: Tensor, piece: Piece | None, rank: int) -> None:
    """Add a tensor, or this process's piece of one, unless another process writes it."""
    if piece is None:
        if rank == 0:
            file.add(name, own)
    elif piece.owner and (own.numel() or not piece.shape):
        file.add(name, own, (piece.shape, piece.first))


def _state(optimizer: TorchOptimizer) -> list[tuple[str, Tensor, nn.Parameter, int | None]]:
    """Return name, tensor, weight and averaged axis of each tensor of the optimizer's state."""
    averaged = getattr(optimizer, "averaged", {})
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    return [
        (f"{number}.{name}", value, weight, averaged.get(name))
        for number, weight in enumerate(weights)
        for name, value in optimizer.state.get(weight, {}).items()
        if isinstance(value, Tensor)
    ]


def settings_of(optimizer: TorchOptimizer) -> Json:
    """Return what an optimizer's state holds beside tensors."""
    whole = optimizer.state_dict()
    plain = {
        str(number): {name: value for name, value in values.items() if not isinstance(value, Tensor)}
        for number, values in whole["state"].items()
    }
    return {"state": plain, "param_groups": copy.deepcopy(whole["param_groups"])}


@torch.no_grad()
def restore(learner: Learner, optimizer: TorchOptimizer, model: SavedTensors, state: SavedTensors, kept: Json) -> None:
    """Load this process's pieces of a saved run into learner and optimizer.

    Args:
        learner: whose parameters and buffers have the names of `model`.
        optimizer: whose state gets the tensors of `state`.
        model: the saved weights.
        state: the saved tensors of the optimizer's state.
        kept: what `settings_of` returned.
    """
    for name, tensor in learner.held().items():
        own = piece_of(tensor) or Piece(tuple(tensor.shape))
        held(tensor).copy_(model.read(name, own.first, own.held))
    averaged = getattr(optimizer, "averaged", {})
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    found = {int(number): dict(values) for number, values in kept["state"].items()}
    for key, shape in state.shapes.items():
        number, name = key.split(".", 1)
        piece = piece_of(weights[int(number)]) if shape else None
        if piece is not None and name in averaged:
            piece = piece.averaged(averaged[name])
        value = state.whole(key) if piece is None else state.read(key, piece.first, piece.held)
        found[int(number)][name] = value
    optimizer.load_state_dict({"state": found, "param_groups": kept["param_groups"]})


def write_document(path: Path, value: Json) -> None:
    """Write a value as JSON."""
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Call fsync on a file or on a folder's entries."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

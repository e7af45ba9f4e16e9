"""Files of tensors: safetensors or PyTorch's own, whole or in shards, read tensor by tensor and as tensors alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from genus.errors import GenusError
from genus.files import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

WHOLE = ("model.safetensors", "pytorch_model.bin")
"""In the order of preference."""
INDEX = ".index.json"
"""What the name of a whole file goes on with where it is in shards, and which tensor lies in which shard."""


class Weights(Mapping[str, "torch.Tensor"]):
    """The tensors of a model folder by their foreign names, in the types in which they are stored.

    A tensor is read when it is asked for, and is not kept. It may lie in the mapped file: it is for reading only, and
    `converted` gives one in memory of its own.
    """

    def __init__(self, readers: Mapping[str, Callable[[str], Tensor]]) -> None:
        self.readers = readers

    def __getitem__(self, name: str) -> Tensor:
        """Read a tensor."""
        return self.readers[name](name)

    def __iter__(self) -> Iterator[str]:
        """Return the names."""
        return iter(self.readers)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self.readers)

    def __contains__(self, name: object) -> bool:
        """Say whether there is a tensor of that name, without reading it."""
        return name in self.readers


def read_weights(folder: Path) -> Weights:
    """Return the tensors of a model folder, whole or in shards; the files are opened, and no tensor is read.

    Raises:
        GenusError: there is no file of weights, or one is missing or damaged, or holds more than tensors.
    """
    for name in WHOLE:
        if (folder / name).is_file():
            return Weights(_readers(folder / name))
        if (folder / f"{name}{INDEX}").is_file():
            return Weights(_sharded(folder / f"{name}{INDEX}"))
    raise GenusError(f"{folder}: there are no weights here; expected {' or '.join(WHOLE)}")


def converted(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """Return a tensor that has been read in memory of its own, floats in another type.

    Args:
        tensor: may be a view, or lie in a mapped file.
        dtype: of floats; integers and booleans stay what they are.
        name: for the error.

    Raises:
        GenusError: it holds NaN or infinities.
    """
    tensor = tensor.detach()
    made = tensor.to(dtype) if tensor.is_floating_point() else tensor
    if made.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr():
        made = made.clone(memory_format=torch.contiguous_format)
    if made.is_floating_point() and made.numel() and not all(end.isfinite() for end in made.aminmax()):
        raise GenusError(f"{name} has numbers that are not finite, as where training diverged; take another model")
    return made.contiguous()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of one file.

    Raises:
        GenusError: the file is missing or damaged, or holds more than tensors.
    """
    return {name: read(name) for name, read in _readers(path).items()}


def weight_files(folder: Path) -> set[str]:
    """Return the names of the safetensors files of a model in a folder: the whole one, or the index and its shards."""
    index = folder / f"{WHOLE[0]}{INDEX}"
    found = {name for name in (WHOLE[0], index.name) if (folder / name).is_file()}
    if index.name in found:
        try:
            found |= {shard for shard in _places(index).values() if (folder / shard).is_file()}
        except GenusError:
            found.discard(index.name)
    return found


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of tensors and their names."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _places(index: Path) -> dict[str, str]:
    """Return in which shard each tensor lies."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise GenusError(f"{index}: expected a table weight_map of tensors and the files that they lie in")
    for name, shard in places.items():
        if not isinstance(shard, str) or os.path.basename(shard) != shard or shard in ("", ".", ".."):
            raise GenusError(f"{index}: weight_map: {name} lies in {shard!r}, which is no file's name")
    return places


def _sharded(index: Path) -> dict[str, Callable[[str], Tensor]]:
    """Return how to read each tensor of a folder in shards."""
    places = _places(index)
    shards = {shard: _readers(index.parent / shard) for shard in sorted(set(places.values()))}
    for name, shard in places.items():
        if name not in shards[shard]:
            raise GenusError(f"{index.parent / shard}: lacks {name}, which {index.name} says is there")
    every = {name: read for readers in shards.values() for name, read in readers.items()}
    return every | {name: shards[shard][name] for name, shard in places.items()}


def _readers(path: Path) -> dict[str, Callable[[str], Tensor]]:
    """Return how to read each tensor of one file, which stays open as long as one of them is held."""
    try:
        if path.suffix == ".safetensors":
            file = safe_open(path, framework="pt")
            return dict.fromkeys(file.keys(), file.get_tensor)  # type: ignore[no-untyped-call]
        loaded = _unpickled(path)
    except FileNotFoundError:
        raise GenusError(f"{path}: there is no such file") from None
    except SafetensorError as error:
        raise GenusError(f"{path}: is damaged or cut off ({error})") from None
    except Exception:  # the reader's errors are of many types, and its messages of many lines
        raise GenusError(f"{path}: is damaged, or holds more than tensors, which is not read") from None
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise GenusError(f"{path}: holds no table of tensors")
    return dict.fromkeys(loaded, loaded.__getitem__)


def _unpickled(path: Path) -> Any:
    """Return what a file of PyTorch's holds, its tensors left in the mapped file where the format allows it."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:  # the format before PyTorch 1.6, which cannot be mapped
        return torch.load(path, map_location="cpu", weights_only=True)

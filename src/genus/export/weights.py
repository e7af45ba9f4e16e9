"""Reading of weight files: safetensors or PyTorch's format, whole or in shards, tensor by tensor, running no code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from genus.errors import GenusError
from genus.files import CHECKSUMS, checksum, read_json, reason

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

WHOLE = ("model.safetensors", "pytorch_model.bin")
"""Names of unsharded weight files, in order of preference."""
INDEX = ".index.json"
"""Suffix, after the unsharded file's name, of the index that maps each tensor to its shard."""


class Weights(Mapping[str, "torch.Tensor"]):
    """A lazy mapping of a model folder's tensors by their stored names, in their stored types.

    A tensor is read at each access and is not cached. It may be a view of the memory-mapped file and must not be
    written to; `converted` returns a copy.
    """

    def __init__(self, readers: Mapping[str, Callable[[str], Tensor]]) -> None:
        self.readers = readers

    def __getitem__(self, name: str) -> Tensor:
        """Read the tensor of a name."""
        return self.readers[name](name)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.readers)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self.readers)

    def __contains__(self, name: object) -> bool:
        """Return whether there is a tensor of that name, without reading it."""
        return name in self.readers


def read_weights(folder: Path) -> Weights:
    """Open the weight files of a model folder, whole or in shards; tensors are read on access.

    Raises:
        GenusError: there is no weight file, or one is missing or damaged, or holds more than tensors.
    """
    for name in WHOLE:
        if (folder / name).is_file():
            return Weights(_readers(folder / name))
        if (folder / f"{name}{INDEX}").is_file():
            return Weights(_sharded(folder / f"{name}{INDEX}"))
    raise GenusError(f"{folder}: there are no weights here; expected {' or '.join(WHOLE)}")


def open_weights(path: Path) -> Weights:
    """Open one file of weights; tensors are read on access.

    Raises:
        GenusError: the file is missing or damaged, or holds more than tensors.
    """
    return Weights(_readers(path))


def converted(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """Return a contiguous copy of a tensor in memory of its own, with floats converted to `dtype`.

    Args:
        tensor: any tensor, which may be a view or lie in a memory-mapped file.
        dtype: type for floats; integers and booleans keep theirs.
        name: name of the tensor in error messages.

    Raises:
        GenusError: it holds NaN or infinities.
    """
    tensor = tensor.detach()
    made = tensor.to(dtype) if tensor.is_floating_point() else tensor
    if made.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr():
        made = made.clone(memory_format=torch.contiguous_format)
    check_finite(made, name)
    return made.contiguous()


def check_finite(tensor: Tensor, name: str) -> None:
    """Check that a tensor holds finite numbers; `name` is its name in the error message.

    Raises:
        GenusError: it holds NaN or infinities.
    """
    if tensor.is_floating_point() and tensor.numel() and not all(end.isfinite() for end in tensor.aminmax()):
        raise GenusError(f"{name} has numbers that are not finite, as where training diverged; take another model")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of one file.

    Raises:
        GenusError: the file is missing or damaged, or holds more than tensors.
    """
    return {name: read(name) for name, read in _readers(path).items()}


def weight_files(folder: Path) -> set[str]:
    """Return the names of a model folder's safetensors files: the unsharded one, or the index and its shards."""
    index = folder / f"{WHOLE[0]}{INDEX}"
    found = {name for name in (WHOLE[0], index.name) if (folder / name).is_file()}
    if index.name in found:
        try:
            found |= {shard for shard in _places(index).values() if (folder / shard).is_file()}
        except GenusError:
            found.discard(index.name)
    return found


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors and their names, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _places(index: Path) -> dict[str, str]:
    """Return {tensor name: shard file name} as the index has it."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise GenusError(f"{index}: expected a table weight_map of tensors and the files that they lie in")
    for name, shard in places.items():
        if not isinstance(shard, str) or os.path.basename(shard) != shard or shard in ("", ".", ".."):
            raise GenusError(f"{index}: weight_map: {name} lies in {shard!r}, which is no file's name")
    return places


def _sharded(index: Path) -> dict[str, Callable[[str], Tensor]]:
    """Return a reader for each tensor of a sharded folder, by name."""
    places = _places(index)
    shards = {shard: _readers(index.parent / shard) for shard in sorted(set(places.values()))}
    for name, shard in places.items():
        if name not in shards[shard]:
            raise GenusError(f"{index.parent / shard}: lacks {name}, which {index.name} says is there")
    every = {name: read for readers in shards.values() for name, read in readers.items()}
    return every | {name: shards[shard][name] for name, shard in places.items()}


def _readers(path: Path) -> dict[str, Callable[[str], Tensor]]:
    """Return a reader for each tensor of one file, by name; the file stays open as long as a reader is held."""
    try:
        if path.suffix == ".safetensors":
            path.open("rb").close()  # the library takes a file that may not be read for one that is not there
            file = safe_open(path, framework="pt")
            return dict.fromkeys(file.keys(), _checked(path, file))  # type: ignore[no-untyped-call]
        loaded = _unpickled(path)
    except FileNotFoundError:
        raise GenusError(f"{path}: there is no such file") from None
    except PermissionError as error:
        raise GenusError(f"{path}: cannot be read: {reason(error)}") from None
    except SafetensorError as error:
        raise GenusError(f"{path}: is damaged or cut off ({error})") from None
    except Exception:  # torch.load raises errors of many types, with messages of many lines
        raise GenusError(f"{path}: is damaged, or holds more than tensors, which is not read") from None
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise GenusError(f"{path}: holds no table of tensors by name; save a state_dict")
    return dict.fromkeys(loaded, loaded.__getitem__)


def _checked(path: Path, file: Any) -> Callable[[str], Tensor]:
    """Return a reader of an open safetensors file, which compares each tensor with its checksum, if it has one."""
    checksums = json.loads((file.metadata() or {}).get(CHECKSUMS, "{}"))

    def read(name: str) -> Tensor:
        tensor: Tensor = file.get_tensor(name)
        if name in checksums and checksum(tensor) != checksums[name]:
            raise GenusError(f"{path}: is damaged ({name} is not as it was written); take another copy")
        return tensor

    return read


def _unpickled(path: Path) -> Any:
    """Load a PyTorch file, with its tensors memory-mapped where the format allows it."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:  # the format before PyTorch 1.6 cannot be memory-mapped
        return torch.load(path, map_location="cpu", weights_only=True)

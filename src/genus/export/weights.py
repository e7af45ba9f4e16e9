"""Files of tensors: safetensors or PyTorch's own, whole or in shards, read as tensors alone."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from genus.errors import GenusError
from genus.files import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

WHOLE = ("model.safetensors", "pytorch_model.bin")
"""In the order of preference."""


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a model folder by their foreign names, in the types in which they are stored.

    Raises:
        GenusError: there is no file of weights, or one is damaged, or holds more than tensors, or NaN or infinities.
    """
    tensors = _read(folder)
    broken = next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None)
    if broken is not None:
        raise GenusError(f"{folder}: {broken} has numbers that are not finite, as where training diverged; "
                         "take another model")  # fmt: skip
    return tensors


def _read(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a model folder, whole or in shards."""
    for name in WHOLE:
        if (folder / name).is_file():
            return read_tensors(folder / name)
        if (folder / f"{name}.index.json").is_file():
            shards = read_json(folder / f"{name}.index.json").get("weight_map", {})
            parts = [read_tensors(folder / shard) for shard in sorted(set(shards.values()))]
            return {key: tensor for part in parts for key, tensor in part.items()}
    raise GenusError(f"{folder}: there are no weights here; expected {' or '.join(WHOLE)}")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of one file.

    Raises:
        GenusError: the file is missing or damaged, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise GenusError(f"{path}: there is no such file") from None
    except SafetensorError as error:
        raise GenusError(f"{path}: is damaged or cut off ({error})") from None
    except Exception:  # the reader's errors are of many types, and its messages of many lines
        raise GenusError(f"{path}: is damaged, or holds more than tensors, which is not read") from None
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise GenusError(f"{path}: holds no table of tensors")
    return loaded


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of tensors and their names."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()

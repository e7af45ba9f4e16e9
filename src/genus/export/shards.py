"""Sharded writing of weights: one safetensors file, or several with an index where a shard's limit is exceeded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from genus.export.weights import INDEX, WHOLE, check_finite, weight_files
from genus.files import write_json, write_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import Tensor

SHARD_BYTES = 5_000_000_000
"""Largest file in bytes, unless one tensor alone is larger: 5 GB, transformers' default up to its version 4."""
FILE = WHOLE[0]
STEMS = ("model", "model-b")
"""Prefixes of shard names; the second is used where the first would give names of files that are still in use."""


@dataclass
class Writing:
    """Progress of writing: number of parameters, bytes, and tensor names per shard."""

    parameters: int = 0
    size: int = 0
    """Size in bytes."""
    shards: list[list[str]] = field(default_factory=list)
    """The names of the tensors of each file."""


def write_weights(work: Path, tensors: Iterable[tuple[str, Tensor]], target: Path, shard_bytes: int) -> int:
    """Write tensors as safetensors shards into a folder that will replace another, and return their parameter count.

    At most one shard is in memory besides what the caller holds. New shards never have the names of shards in the
    replaced folder, since its index refers to these until the new index takes its place.

    Args:
        work: the folder to write into.
        tensors: pairs of name in the file and tensor.
        target: the folder that `work` is moved to.
        shard_bytes: the largest size in bytes of a file with more than one tensor.

    Raises:
        GenusError: a tensor has numbers that are not finite.
        OSError: the files cannot be written, for example because the disk is full.
    """
    done, pending, held = Writing(), dict[str, "Tensor"](), 0
    for name, tensor in tensors:
        check_finite(tensor, name)
        if pending and held + tensor.nbytes > shard_bytes:
            _flush(work, pending, done)
            pending, held = {}, 0
        pending[name] = tensor
        held += tensor.nbytes
    _flush(work, pending, done)
    if not done.shards[1:]:
        _part(work, 0).rename(work / FILE)
        return done.parameters
    count, names = len(done.shards), set(weight_files(target))
    options = [[f"{stem}-{n:05}-of-{count:05}.safetensors" for n in range(1, count + 1)] for stem in STEMS]
    files = next((each for each in options if not names.intersection(each)), options[0])
    for number, file in enumerate(files):
        _part(work, number).rename(work / file)
    places = {name: file for file, held_names in zip(files, done.shards, strict=True) for name in held_names}
    facts = {"total_parameters": done.parameters, "total_size": done.size}
    write_json(work / f"{FILE}{INDEX}", {"metadata": facts, "weight_map": places})
    return done.parameters


def _part(work: Path, number: int) -> Path:
    """Return the temporary path of a shard, used until the number of shards is known."""
    return work / f"{number}.safetensors"


def _flush(work: Path, tensors: dict[str, Tensor], done: Writing) -> None:
    """Write pending tensors as one shard, and add them to the totals."""
    try:
        write_tensors(_part(work, len(done.shards)), tensors)
    except SafetensorError as error:
        raise OSError(str(error)) from None
    done.parameters += sum(tensor.numel() for tensor in tensors.values())
    done.size += sum(tensor.nbytes for tensor in tensors.values())
    done.shards.append(list(tensors))

"""Weights of any stored precision are read in the one asked for, tensor by tensor, in the memory of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from folders import rewrite, tiny
from safetensors.torch import load_file, save_file
from test_native import made
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genus.errors import GenusError
from genus.export.folder import load, save

if TYPE_CHECKING:
    from pathlib import Path

DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
NAMES = ["bfloat16", "float16", "float32", "float64"]
asked = pytest.mark.parametrize("asked", DTYPES, ids=NAMES)
stored = pytest.mark.parametrize("stored", DTYPES, ids=NAMES)


@stored
@asked
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_any_stored_precision_is_read_in_the_one_asked_for(
    folder: Path, stored: torch.dtype, asked: torch.dtype, file: str
) -> None:
    exact = {name: tensor.to(stored) for name, tensor in load(folder).learner.state_dict().items()}
    rewrite(folder, lambda tensors: {name: tensor.to(stored) for name, tensor in tensors.items()})
    if file == "pytorch_model.bin":
        torch.save(load_file(folder / "model.safetensors"), folder / file)
        (folder / "model.safetensors").unlink()
    found = load(folder, asked).learner.state_dict()
    assert {tensor.dtype for tensor in found.values()} == {asked}
    assert all(torch.equal(tensor, exact[name].to(asked)) for name, tensor in found.items())


@asked
def test_folders_that_only_genus_reads_too(tmp_path: Path, asked: torch.dtype) -> None:
    recipe, learner, words = made("memory", tmp_path)
    save(tmp_path / "model", recipe, learner, words)
    found = load(tmp_path / "model", asked).learner.state_dict()
    assert all(torch.equal(found[name], tensor.to(asked)) for name, tensor in learner.state_dict().items())


class Peak(TorchDispatchMode):
    """Counts the bytes of all tensors made within it that are alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu":
                storage = tensor.untyped_storage()
                self.live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.live = {key: one for key, one in self.live.items() if not one[0].expired()}
        self.most = max(self.most, sum(size for _, size in self.live.values()))
        return found


SLACK = 2_000
"""Bytes of the smallest and largest number of a tensor, and of other scalars."""


@stored
@asked
@pytest.mark.parametrize("native", [False, True])
def test_reading_takes_the_model_s_memory_and_a_row_s(
    tmp_path: Path, stored: torch.dtype, asked: torch.dtype, native: bool
) -> None:
    """Read whole in float32 first, as it was, it would take twice the model's memory and more."""
    recipe, learner, words = made("memory", tmp_path) if native else tiny("bert", tmp_path)
    save(tmp_path / "model", recipe, learner.to(stored), words)
    with Peak() as peak:
        found = load(tmp_path / "model", asked).learner
    sizes = {name: tensor.nbytes for name, tensor in found.tensors().items()}
    row = max(tensor.numel() for tensor in found.tensors().values()) * max(stored.itemsize, asked.itemsize)
    assert sum(sizes.values()) <= peak.most <= sum(sizes.values()) + row + SLACK


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_model_does_not_lie_in_its_file(folder: Path, file: str) -> None:
    """Whoever writes over the file in place does not change, or end, who has read it."""
    if file == "pytorch_model.bin":
        torch.save(load_file(folder / "model.safetensors"), folder / file)
        (folder / "model.safetensors").unlink()
    found = load(folder).learner.state_dict()
    with (folder / file).open("r+b") as open_file:
        open_file.write(bytes((folder / file).stat().st_size))
    expected = tiny("bert", folder.parent)[1].state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("native", [False, True])
def test_numbers_that_are_not_finite_are_one_line(tmp_path: Path, number: float, native: bool) -> None:
    """In a file that others wrote: genus writes none."""
    recipe, learner, words = made("memory", tmp_path) if native else tiny("bert", tmp_path)
    save(tmp_path / "model", recipe, learner, words)
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    name = next(name for name in tensors if name.endswith("weight") and ".1." in name and tensors[name].dim() == 2)
    tensors[name][2, 3] = number
    save_file(tensors, tmp_path / "model" / "model.safetensors")
    with torch.no_grad():
        learner.network.layers[1].feedforward.out.weight[2, 3] = number
    with pytest.raises(GenusError, match="not finite"):
        save(tmp_path / "other", recipe, learner, words)
    assert not (tmp_path / "other").exists()
    with pytest.raises(
        GenusError, match=r"model: .*weight has numbers that are not finite, as where training diverged"
    ):
        load(tmp_path / "model")

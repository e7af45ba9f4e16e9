"""float8 linear maps: refused in one line where they cannot be, and torchao's conversion, of which CPUs compute too."""

from __future__ import annotations

import sys

import pytest
import torch
from toy_run import RUN, STILL, ToyFeed, toy_learner

from genus import catalog
from genus.errors import GenusError, UsageError
from genus.optim.adamw import AdamW
from genus.train.data import MicroBatch
from genus.train.float8 import check_float8, convert_linear_maps
from genus.train.parallel.tensor import TensorParallel
from genus.train.step import TrainStep
from genus.train.world import World

EIGHT = RUN.override("precision", "float8")
ALONE = World(0, 1, torch.device("cpu"))
CPU, GPU = torch.device("cpu"), torch.device("cuda")
FLOAT8 = 0.02
"""Relative, of losses: products of 4 bits, summed in more."""


def cards(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA A100-SXM4-40GB")


def test_devices_without_it_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"^run.precision=float8: a CPU has no products in float8") as caught:
        TrainStep(toy_learner(), AdamW(lr=1e-2), EIGHT, ALONE, seed=0)
    assert "\n" not in str(caught.value)
    cards(monkeypatch, (8, 0))
    with pytest.raises(UsageError, match=r"A100-SXM4-40GB has no products in float8.*take precision=bfloat16"):
        check_float8(EIGHT, GPU)


def test_split_matrices_and_a_missing_library_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cards(monkeypatch, (9, 0))
    with pytest.raises(UsageError, match="split among processes are not in float8"):
        check_float8(EIGHT.overlay({"parallel": TensorParallel().to_json()}), GPU)
    monkeypatch.setitem(sys.modules, "torchao.float8", None)
    with pytest.raises(GenusError, match=r"precision=float8 needs another library: pip install 'genus\[float8\]'"):
        check_float8(EIGHT, GPU)


def test_the_maps_of_layers_are_converted() -> None:
    """Of bert/base, on `meta`: six maps of each of 12 layers; the names of tensors stay."""
    pytest.importorskip("torchao")
    with torch.device("meta"):
        learner = catalog.load("bert/base").learner()
    before = [(name, tensor.shape) for name, tensor in learner.held().items()]
    names = convert_linear_maps(learner)
    assert len(names) == 6 * 12
    kinds = {type(module).__name__ for name, module in learner.network.named_modules() if name in names}
    assert kinds == {"Float8Linear"}
    assert [(name, tensor.shape) for name, tensor in learner.held().items()] == before
    assert not any(type(module).__name__ == "Float8Linear" for module in learner.heads.modules())


def test_steps_in_float8_are_near(monkeypatch: pytest.MonkeyPatch) -> None:
    """As CPUs compute them: losses fall as in bfloat16, in other numbers, and maps of 8 units are left out."""
    pytest.importorskip("torchao")
    monkeypatch.setattr("genus.train.step.check_float8", lambda *_: None)
    found: dict[str, list[float]] = {}
    for precision in ("bfloat16", "float8"):
        learner = toy_learner(model=STILL)
        train_step = TrainStep(learner, AdamW(lr=1e-2), RUN.override("precision", precision), ALONE, seed=0)
        found[precision] = []
        for step in range(5):
            batch = ToyFeed()[step]
            counts = train_step.count({step: MicroBatch(batch, 0.0)})
            found[precision].append(train_step({step: batch}, 0, 1.0, counts.targets).read().loss)
    assert found["float8"] != found["bfloat16"]
    assert found["float8"] == pytest.approx(found["bfloat16"], rel=FLOAT8)
    assert all(weight.dtype == torch.float32 for weight in learner.parameters())

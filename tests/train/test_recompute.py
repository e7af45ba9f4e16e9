"""Activations that are computed again: the same numbers, fewer of them kept."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from toy_run import MODEL, RUN, ToyFeed, losses, toy_learner, toy_train

from genus.errors import UsageError
from genus.train.recompute import recompute

if TYPE_CHECKING:
    from pathlib import Path

WAYS = ("nothing", "selected", "layers")
DEEP = MODEL.override("layers", 4)


@pytest.mark.parametrize("what", WAYS[1:])
def test_losses_are_the_same_with_dropout(what: str, tmp_path: Path) -> None:
    toy_train(tmp_path / "kept")
    toy_train(tmp_path / "again", run=RUN.override("recompute", what))
    assert losses(tmp_path / "again") == losses(tmp_path / "kept")


def test_fewer_activations_are_kept() -> None:
    """A layer keeps its input alone, which is more than what is kept of the embedding and the head."""
    assert kept("layers") < kept("nothing") / 4


def kept(what: str) -> int:
    """Return the bytes that a forward pass keeps for the backward pass."""
    learner, sizes = toy_learner(model=DEEP), dict[int, torch.Tensor]()
    recompute(learner, what)  # type: ignore[arg-type]

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        assert learner(ToyFeed()[0]).sums
    return sum(tensor.nbytes for tensor in sizes.values())


class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operators."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls = Counter[str]()

    def __torch_dispatch__(self, operator: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        self.calls[str(operator)] += 1
        return operator(*given, **(named or {}))


def test_what_is_computed_again() -> None:
    """Of `selected` attention and activations, but no product with weights; of `layers` all of a layer's."""
    found = {what: backward(what) for what in WAYS}
    layers, products, attention = DEEP.layers, "aten.addmm.default", "aten._softmax.default"
    assert [found[what][products] for what in WAYS] == [0, 0, 6 * layers]
    assert [found[what][attention] for what in WAYS] == [0, layers, layers]
    assert [found[what]["aten.gelu.default"] for what in WAYS] == [0, layers, layers]


def backward(what: str) -> Counter[str]:
    """Return how often each operator is called in a backward pass."""
    learner = toy_learner(model=DEEP)
    recompute(learner, what)  # type: ignore[arg-type]
    batch = ToyFeed()[0]
    loss = learner.objective(learner(batch).sums, learner.counts(batch))
    with Counted() as counted:
        loss.backward()  # type: ignore[no-untyped-call]
    calls: Counter[str] = counted.calls
    return calls


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(UsageError, match="no stack of layers"):
        recompute(torch.nn.Linear(1, 1), "layers")

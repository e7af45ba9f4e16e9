"""Weights belong to the modules that hold them, in every member: they are drawn there, and can be wrapped there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from genus import catalog
from genus.model.attention.relative import RelativeAttention
from genus.model.attention.two_stream import TwoStreamAttention
from genus.model.skeleton import skeleton
from genus.model.transformer import Transformer
from small import shrunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Small
    from genus.model import Network
    from genus.objectives import Learner
    from genus.recipe import Recipe

LINEAR = 0.95
"""Least share of the weights of the layers that are in linear maps, which alone are tuned, quantized or split."""


def distinct() -> dict[str, str]:
    """Return a row's name for every recipe that is made when the rows are made small."""
    published, found = catalog.load("bert").published, {}
    for name in catalog.names():
        found.setdefault(replace(shrunk(catalog.load(name)), name="small", published=published).hash(), name)
    return found


rows = pytest.mark.parametrize("name", distinct().values())


class Wrapped(nn.Module):
    """A linear map as an adapter or a quantized map holds it: with a forward pass, and without a weight."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)  # type: ignore[no-any-return]


def wrap(module: nn.Module) -> int:
    """Replace every linear map within a module, and return how many there were."""
    number = 0
    for name, child in list(module.named_children()):
        if type(child) is nn.Linear:
            setattr(module, name, Wrapped(child))
            number += 1
        elif not isinstance(child, Wrapped):  # of a module that several layers share
            number += wrap(child)
    return number


def step(learner: Learner, it: Small) -> tuple[list[float], dict[str, Tensor | None]]:
    """Return the losses of a step on every batch, and all gradients."""
    torch.manual_seed(1)
    found = []
    for batch in it.batches:
        loss = learner.objective(learner(batch).sums, learner.counts(batch))
        loss.backward()
        found.append(loss.item())
    return found, {name.replace(".linear.", "."): weight.grad for name, weight in learner.named_parameters()}


def stacks(network: Network) -> list[nn.Module]:
    """Return the stacks of layers: one, or an encoder's and a decoder's."""
    return [module for name, module in network.named_modules() if name.rpartition(".")[2] == "layers"]


@rows
def test_linear_maps_of_the_layers_can_be_wrapped(name: str, small: Callable[[str], Small]) -> None:
    """The step is the same, bit for bit."""
    it = small(name)
    plain, wrapped = fresh(it.recipe), fresh(it.recipe)
    assert all(wrap(layers) for layers in stacks(wrapped.network))
    (losses, gradients), (found, after) = step(plain, it), step(wrapped, it)
    assert found == losses
    assert after.keys() == gradients.keys()
    for key, gradient in gradients.items():
        other = after[key]
        assert (gradient is None) == (other is None)
        assert gradient is None or other is None or torch.equal(gradient, other), key


def fresh(recipe: Recipe) -> Learner:
    torch.manual_seed(0)
    return recipe.learner()


@pytest.mark.parametrize("name", [next(iter(sizes)) for sizes in catalog.members().values()])
def test_weights_of_the_layers_are_in_linear_maps(name: str) -> None:
    with skeleton():
        found = stacks(catalog.load(name).learner().network)
    if catalog.load(name).model.pixels("tokens") is not None:
        pytest.skip("has convolutions, and no stack of layers")
    assert found
    for layers in found:
        linear = {weight for module in layers.modules() if type(module) is nn.Linear for weight in module.parameters()}
        total = sum(weight.numel() for weight in layers.parameters())
        assert sum(weight.numel() for weight in linear) >= LINEAR * total


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fresh memory hold what is no number."""
    real = torch.empty

    def empty(*sizes: Any, **options: Any) -> Tensor:
        made = real(*sizes, **options)
        return made.detach().fill_(torch.nan) if made.is_floating_point() and not made.is_meta else made

    monkeypatch.setattr(torch, "empty", empty)


def drawn_alike(recipe: Recipe) -> None:
    """Build a learner twice from one seed: all of it is drawn, and alike."""
    one, other = (dict(fresh(recipe).named_parameters()) for _ in range(2))
    assert not [name for name, weight in one.items() if not bool(weight.isfinite().all())]
    assert not [name for name, weight in one.items() if not torch.equal(weight, other[name])]


@rows
@pytest.mark.usefixtures("poisoned")
def test_every_parameter_is_drawn(name: str) -> None:
    drawn_alike(shrunk(catalog.load(name)))


@pytest.mark.parametrize(
    "attention", [RelativeAttention(heads=2), TwoStreamAttention(heads=2)], ids=lambda part: type(part).__name__
)
@pytest.mark.parametrize("name", [next(iter(sizes)) for sizes in catalog.members().values()])
@pytest.mark.usefixtures("poisoned")
def test_every_parameter_is_drawn_with_another_attention(name: str, attention: RelativeAttention) -> None:
    """In every member that is a plain encoder, whatever its stack and its block."""
    recipe = shrunk(catalog.load(name))
    if type(recipe.model) is not Transformer:
        pytest.skip("has a kind of attention of its own")
    try:
        recipe = replace(recipe, model=replace(recipe.model, attention=attention))
    except ValueError:
        pytest.skip("has a stack for one kind of attention")
    drawn_alike(recipe)
    (layers,) = stacks(recipe.learner().network)
    assert all(bool(weight.any()) for key, weight in layers.named_parameters() if "attention." in key)

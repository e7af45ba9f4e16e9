"""A skeleton has the names and shapes of what is built, no memory, and takes no random numbers."""

from __future__ import annotations

import torch
from torch import nn

from genus import catalog
from genus.model.skeleton import skeleton


def test_it_is_what_is_built_without_its_memory() -> None:
    recipe = catalog.load("bert/tiny")
    before = torch.get_rng_state()
    with skeleton():
        bare = dict(recipe.learner().named_parameters())
    assert torch.equal(torch.get_rng_state(), before)
    built = dict(recipe.learner().named_parameters())
    assert all(weight.is_meta for weight in bare.values())
    assert {name: weight.shape for name, weight in bare.items()} == {name: one.shape for name, one in built.items()}


def test_what_has_memory_is_drawn() -> None:
    with skeleton():
        drawn = nn.init.normal_(torch.full((8,), torch.nan, device="cpu"))
    assert drawn.isfinite().all()

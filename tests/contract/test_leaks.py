"""Documents that share a row never meet, in any network of the catalog: not one bit of a neighbor's states moves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from genus import catalog
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.model.resnet import BatchNorm
from small import STAGE, VOCABULARY, of_texts, shrunk

if TYPE_CHECKING:
    from torch import Tensor

    from genus.batch import Batch
    from genus.model import Model, Network
    from genus.recipe import Recipe

LENGTH = STAGE["max_length"]
ROWS = [[13, 17], [22, 10]]
"""Tokens of each document: they end within blocks and chunks, and one row has dead cells."""
PAD = 0
GRID = 3
"""Patches of a side of a residual network's images, of which a row holds two and a rest."""
APART = {("source", "tokens"), ("image", "tokens"), ("tokens", "image")}
"""Streams of which the first does not depend on the second."""


@pytest.mark.parametrize("name", catalog.names())
def test_small_no_document_reaches_another(name: str) -> None:
    """In training, in the model and those within its heads; what remembers begins with an empty memory.

    Nor does the source of another document reach it, where there are sources. Batch normalization alone is as in
    evaluation: in training its statistics are of the whole batch, as published.
    """
    torch.manual_seed(0)
    recipe = shrunk(catalog.load(name))
    recipe = recipe if of_texts(recipe) else with_places(recipe)
    learner, streams = recipe.learner(), recipe.model.streams
    for module in learner.modules():
        module.training = not isinstance(module, BatchNorm)
    batch, other = documents(recipe.model, seed=0), documents(recipe.model, seed=1)
    for network in [learner.network, *(one.learner.network for one in learner.auxiliary_models().values())]:
        before = states(network, batch)
        for place in (0, 1):
            own = cells(batch, place, rows_of(recipe.model))
            for changed in streams & batch.streams.keys():
                after = states(network, with_ids(batch, other, changed, own))
                for stream, values in before.items():
                    moved = (values != after[stream]).any(-1)
                    others = (moved & ~own).nonzero().tolist()
                    assert not others, f"{stream} of another document moved with its {changed}: {others}"
                    assert moved[own].any() or (stream, changed) in APART, f"{stream} know no {changed}"


def with_places(recipe: Recipe) -> Recipe:
    """Return a recipe whose images may be as long as a row, where a class token stands before: no squares."""
    if recipe.model.projects("image"):
        return recipe.overlay({"model": {"image": {"grid": GRID}}})
    if "image" in recipe.model.streams:
        return recipe.overlay({"model": {"image": {"embedding": {"position": {"length": LENGTH}}}}})
    return recipe


def rows_of(model: Model) -> list[list[int]]:
    """Return the lengths of the documents of each row: those of images are all alike."""
    if model.projects("image"):
        return [[1 + GRID**2] * 2] * 2
    return ROWS if model.pixels("tokens") is None else [[16, 16], [16, 16]]


def documents(model: Model, seed: int) -> Batch:
    """Return the documents of all rows, each with an order of its tokens, and as long in every stream."""
    draws, order, streams = np.random.default_rng(seed), np.random.default_rng(2), sorted(model.streams)

    def sequence(length: int, pixels: int | None) -> Sequence:
        ids = draws.integers(PAD + 1, VOCABULARY, length)
        patches = None if pixels is None else draws.integers(0, 256, (length, pixels), dtype=np.uint8)
        fixed, places = np.zeros(length, dtype=np.bool_), order.permutation(length)
        return Sequence(ids, 0 * ids, fixed, places, pixels=patches)

    rows = [
        [Example({name: sequence(n, model.pixels(name)) for name in streams}, {}) for n in row]
        for row in rows_of(model)
    ]
    return pack(rows, dict.fromkeys(streams, LENGTH), PAD)


def cells(batch: Batch, place: int, rows: list[list[int]]) -> Tensor:
    """Return (T,) bool: what belongs to the first or to the second document of a row."""
    found = torch.zeros(len(batch.tokens.ids), dtype=torch.bool)
    for number, row in enumerate(rows):
        start = number * LENGTH + sum(row[:place])
        found[start : start + row[place]] = True
    return found


def with_ids(batch: Batch, other: Batch, stream: str, where: Tensor) -> Batch:
    """Return the batch with the other one's ids somewhere in a stream."""
    theirs, ours = other.streams[stream], batch.streams[stream]
    changed = replace(ours, ids=torch.where(where, theirs.ids, ours.ids))
    if ours.pixels is not None and theirs.pixels is not None:
        changed = replace(changed, pixels=torch.where(where[:, None], theirs.pixels, ours.pixels))
    return replace(batch, streams={**batch.streams, stream: changed})


@torch.no_grad()
def states(network: Network, batch: Batch) -> dict[str, Tensor]:
    """Return the states (T, H) by their names, drawn from the same seed; all cells have a second one, if any can."""
    packed = batch.tokens
    if getattr(network, "query", None) is not None:
        packed = replace(packed, query=torch.arange(len(packed.ids)).view(-1, LENGTH))
    torch.manual_seed(0)
    memory = network.initial_memory(len(ROWS))
    return network(replace(batch, streams={**batch.streams, "tokens": packed}, memory=memory)).streams

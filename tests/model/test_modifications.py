"""Every row of docs/modifications.md: it is read, counted, takes a step, and lets no document see another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from genus.cost import cost
from genus.model.neighbors import Neighbors
from genus.model.skeleton import skeleton
from model.modified import (
    ALL,
    DOCUMENTS,
    IDS,
    LENGTH,
    NONE,
    ROWS,
    VOCABULARY,
    Modification,
    documents,
    page_rows,
    table,
    told,
)

if TYPE_CHECKING:
    from torch import Tensor

    from genus.batch import Batch
    from genus.model import Network, States

FLOPS = 0.02
"""The count leaves out nothing that PyTorch's counter counts."""
LAYERS = 4
"""Of both rows, on each side."""
each = pytest.mark.parametrize("one", ALL, ids=IDS)


def test_the_page_has_the_rows_of_the_paper() -> None:
    """55 modifications, most of them for both rows, each with settings that no other has."""
    assert len({one.name for one in ALL}) >= 50
    for row in ROWS:
        settings = [one.settings for one in ALL if one.row == row]
        assert len(settings) == len(set(settings)) >= 48


def test_the_page_shows_the_table_of_the_study() -> None:
    """Names, papers and settings; where a modification is not defined there is a dash."""

    def cell(settings: list[str] | None) -> str:
        return NONE if settings is None else f"`{'; '.join(settings)}`" if settings else ""

    wanted = [
        [one["name"], one.get("source", ""), cell(one["settings"]), *(cell(one["of"].get(row)) for row in ROWS)]
        for one in table()
    ]
    assert [row[:5] for row in page_rows()] == wanted


@each
def test_parameters_and_flops_are_those_that_the_page_tells(one: Modification) -> None:
    recipe = one.recipe
    assert one.told == told(recipe, one.row)
    with skeleton():
        learner = recipe.learner()
    assert cost(recipe).parameters == sum(weight.numel() for weight in learner.parameters())


@each
def test_small_a_step_reaches_every_parameter(one: Modification) -> None:
    """But for experts that no token has chosen, of which there is no more than one a layer."""
    model, objectives = one.small()
    learner, batch = one.learner(), documents(model, targets=objectives)
    step, counts = learner(batch), learner.counts(batch)
    assert counts.keys() == {loss for loss in step.sums if "/" not in loss}
    loss = learner.objective(step.sums, counts)
    assert loss.isfinite()
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: weight.grad for name, weight in learner.named_parameters()}
    missing = [name for name, found in gradients.items() if found is None or not found.any()]
    unchosen = {name.partition(".experts.")[0::2][0]: name for name in missing if ".experts." in name}
    assert not [name for name in missing if ".experts." not in name]
    assert len({".".join(name.split(".")[:-2]) for name in missing}) == len(unchosen)
    assert all(bool(found.isfinite().all()) for found in gradients.values() if found is not None)


@each
def test_small_no_document_reaches_another(one: Modification) -> None:
    """Nor its source: not one bit of a neighbor's states moves, nor in a decoder of an earlier token's."""
    model, _ = one.small()
    network = one.learner().network
    batch, other = documents(model, 0), documents(model, 1)
    before = states(network, batch)
    for place in (0, 1):
        own = cells(batch, place)
        for changed in sorted(model.streams):
            after = states(network, with_ids(batch, other, changed, own))
            for stream, values in before.items():
                moved = (values != after[stream]).any(-1)
                assert not (moved & ~own).any(), f"{stream} of another document moved with {changed}"
                assert moved[own].any() or (stream, changed) == ("source", "tokens"), f"{stream} know no {changed}"
    if model.causal:
        late = batch.tokens.positions >= 5
        moved = (states(network, with_ids(batch, other, "tokens", late))["tokens"] != before["tokens"]).any(-1)
        assert not (moved & ~late).any()


@each
def test_small_flops_agree_with_pytorch(one: Modification, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of rows of one document each; convolutions are written as products, as PyTorch counts nothing else."""
    monkeypatch.setattr(Neighbors, "convolved", convolved)
    model, _ = one.small()
    network = one.learner().network
    batch = documents(model, rows=[[LENGTH]] * 4)
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        network(batch)
    lengths = dict.fromkeys(model.streams, LENGTH)
    wanted = model.cost(VOCABULARY, lengths).flops * 4 * LENGTH + beside(one)
    assert counted.get_total_flops() == pytest.approx(wanted, rel=FLOPS)


def beside(one: Modification) -> float:
    """Return the FLOPs of a forward pass that are counted by PyTorch and not by a definition.

    The product of factorized matrices, once a layer; maps of heads of a branched block, one of two of which is not 0.
    """
    sides = 2 if one.row.startswith("t5") else 1
    if one.name == "synthesizer (factorized)":
        return sides * LAYERS * 2 * 2.0 * 64 * 64 * 16
    if one.name == "weighted Transformer":
        wide, attentions = (2 * 48, 3) if sides == 2 else (32, 1)
        return attentions * LAYERS * 2.0 * wide * 32 * 4 * LENGTH
    return 0.0


def convolved(own: Neighbors, x: Tensor, kernel: Tensor) -> Tensor:
    """Return what `Neighbors.convolved` does, as one product."""
    parts = [part * valid[:, :, None] for part, valid in zip(own.shifted(x), own.valid, strict=True)]
    return torch.einsum("ktad,kta->tad", torch.stack(parts), kernel.expand(-1, len(x), -1))


def cells(batch: Batch, place: int) -> Tensor:
    """Return (T,) bool: what belongs to the document at that place of its row."""
    found = torch.zeros(len(batch.tokens.ids), dtype=torch.bool)
    for number, row in enumerate(DOCUMENTS):
        start = number * LENGTH + sum(row[:place])
        found[start : start + (row[place] if place < len(row) else 0)] = True
    return found


def with_ids(batch: Batch, other: Batch, stream: str, where: Tensor) -> Batch:
    """Return the batch with the other one's ids somewhere in a stream."""
    ids = torch.where(where, other.streams[stream].ids, batch.streams[stream].ids)
    return replace(batch, streams={**batch.streams, stream: replace(batch.streams[stream], ids=ids)})


@torch.no_grad()
def states(network: Network, batch: Batch) -> dict[str, Tensor]:
    """Return the states (T, H) by their streams, in training, without dropout."""
    network.train()
    found: States = network(batch)
    return found.streams

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
from small import STAGE, VOCABULARY, shrunk

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Batch
    from genus.model import Network

LENGTH = STAGE["max_length"]
ROWS = [[13, 17], [22, 10]]
"""Tokens of each document: they end within blocks and chunks, and one row has dead cells."""
PAD = 0


@pytest.mark.parametrize("name", catalog.names())
def test_small_no_document_reaches_another(name: str) -> None:
    """In training, in the model and those within its heads; what remembers begins with an empty memory."""
    torch.manual_seed(0)
    learner = shrunk(catalog.load(name)).learner()
    batch, other = documents(seed=0), documents(seed=1)
    for network in [learner.network, *(one.learner.network for one in learner.auxiliary_models().values())]:
        before = states(network, batch)
        for place in (0, 1):
            own = cells(batch, place)
            after = states(network, with_ids(batch, other, own))
            for stream, values in before.items():
                moved = (values != after[stream]).any(-1)
                assert not moved[~own].any(), f"{stream} of another document moved: {(moved & ~own).nonzero().tolist()}"
                assert moved[own].any(), f"{stream} know nothing of the ids"


def documents(seed: int) -> Batch:
    """Return the documents of all rows, each with an order of its tokens."""
    ids, order = np.random.default_rng(seed), np.random.default_rng(2)
    rows = [[example(ids.integers(PAD + 1, VOCABULARY, n), order.permutation(n)) for n in row] for row in ROWS]
    return pack(rows, LENGTH, PAD)


def example(ids: NDArray[np.int64], order: NDArray[np.int64]) -> Example:
    return Example({"tokens": Sequence(ids, 0 * ids, np.zeros(len(ids), dtype=np.bool_), order)}, {})


def cells(batch: Batch, place: int) -> Tensor:
    """Return (T,) bool: what belongs to the first or to the second document of a row."""
    found = torch.zeros(len(batch.tokens.ids), dtype=torch.bool)
    for number, row in enumerate(ROWS):
        start = number * LENGTH + sum(row[:place])
        found[start : start + row[place]] = True
    return found


def with_ids(batch: Batch, other: Batch, where: Tensor) -> Batch:
    """Return the batch with the other one's ids somewhere."""
    ids = torch.where(where, other.tokens.ids, batch.tokens.ids)
    return replace(batch, streams={"tokens": replace(batch.tokens, ids=ids)})


@torch.no_grad()
def states(network: Network, batch: Batch) -> dict[str, Tensor]:
    """Return the states (T, H) by their names, drawn from the same seed; all cells have a second one, if any can."""
    packed = batch.tokens
    if getattr(network, "query", None) is not None:
        packed = replace(packed, query=torch.arange(len(packed.ids)).view(-1, LENGTH))
    torch.manual_seed(0)
    memory = network.initial_memory(len(ROWS))
    return network(replace(batch, streams={"tokens": packed}, memory=memory)).streams

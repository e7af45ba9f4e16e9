"""A decoder that reads texts and goes on with them, all of it anew for each token or with a key-value cache."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
import torch
from torch import Tensor

from genus.batch import Batch, Packed
from genus.model.initialization import Normal
from hand import equal_rows

if TYPE_CHECKING:
    from genus.model.cache import Cache
    from genus.model.transformer import Transformer, TransformerNetwork

LENGTHS = [5, 1, 9, 3]
STEPS = 6
CAPACITIES = {slot: length + STEPS for slot, length in enumerate(LENGTHS)}
DOUBLE = 1e-10
"""Of float64: sums of a hundred products in another order, through three layers."""


def built(model: Transformer, vocabulary: int) -> TransformerNetwork:
    """Return the network with weights large enough that states tell tokens apart."""
    torch.manual_seed(0)
    network = cast("TransformerNetwork", replace(model, initialization=Normal(std=0.3)).build(vocabulary))
    return network.double().eval()


def texts(vocabulary: int) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randint(1, vocabulary, (length,)) for length in LENGTHS]


def next_ids(network: TransformerNetwork, states: Tensor) -> Tensor:
    table = network.token_embedding.weight
    width = min(states.shape[-1], table.shape[-1])  # either may be wider
    return (states[..., :width] @ table[:, :width].T).argmax(-1)


def read(network: TransformerNetwork, packed: Packed, **given: object) -> Tensor:
    with torch.no_grad():
        return network(Batch({"tokens": packed}, {}), **given)["tokens"]


def uncached(network: TransformerNetwork, ids: Tensor) -> tuple[list[int], list[Tensor]]:
    """Return what is generated after a prompt, reading all of it anew for each token, and the states it is told by."""
    made, states = [], []
    for _ in range(STEPS):
        states.append(read(network, equal_rows(ids[None]))[-1])
        made.append(int(next_ids(network, states[-1][None])))
        ids = torch.cat([ids, ids.new_tensor(made[-1:])])
    return made, states


def opened(network: TransformerNetwork, capacities: dict[int, int], *, cross: bool = False) -> Cache:
    """Return a cache with slots of these capacities."""
    cache = network.cache(sum(capacities.values()), cross=cross)
    assert cache is not None
    for slot, capacity in capacities.items():
        cache.open(slot, capacity)
    return cache


def cached(network: TransformerNetwork, cache: Cache, new: dict[int, list[int]], **given: object) -> dict[int, Tensor]:
    """Read new tokens of slots; return the states that tell what follows, by slot."""
    packed = cache.packed(new)
    turns = cache.turns
    states = read(network, packed, cache=cache, **given)
    return {turn.slot: states[turn.first + turn.tokens - 1] for turn in turns}


def same_as_each_alone(network: TransformerNetwork, cache: Cache, given: list[Tensor]) -> None:
    """Generate after packed prompts with a cache, and after each alone without: tokens and states are the same."""
    expected = [uncached(network, ids) for ids in given]
    told = cached(network, cache, {slot: given[slot].tolist() for slot in (2, 1, 3, 0)})
    assert cache.lengths() == dict(enumerate(LENGTHS))
    every = [told]
    while len(every) < STEPS:
        told = cached(network, cache, {slot: next_ids(network, told[slot][None]).tolist() for slot in range(4)})
        every.append(told)
    for slot, (ids, states_alone) in enumerate(expected):
        assert [int(next_ids(network, one[slot][None])) for one in every] == ids
        for one, alone in zip(every, states_alone, strict=True):
            torch.testing.assert_close(one[slot], alone, rtol=DOUBLE, atol=DOUBLE)


def joining_and_leaving(network: TransformerNetwork, vocabulary: int) -> None:
    """In one forward pass: one token of a slot, several of another, a new prompt in the place of one that left."""
    given = texts(vocabulary)
    cache = opened(network, {0: 12, 1: 8, 2: 14})
    cached(network, cache, {slot: given[slot].tolist() for slot in range(3)})
    cache.close(1)
    cache.open(7, 6)
    assert cache.slots[7].start == 12
    new = {2: [4, 9, 2], 7: given[3].tolist(), 0: [7]}
    told = cached(network, cache, new)
    wholes = {2: [*given[2].tolist(), 4, 9, 2], 7: given[3].tolist(), 0: [*given[0].tolist(), 7]}
    for slot, ids in wholes.items():
        alone = read(network, equal_rows(torch.tensor([ids])))[-1]
        torch.testing.assert_close(told[slot], alone, rtol=DOUBLE, atol=DOUBLE)
    with pytest.raises(ValueError, match="slot 7 has room for 6 tokens"):
        cache.packed({7: [1, 2, 3, 4]})
    with pytest.raises(ValueError, match="no room"):
        cache.open(8, 5)


def no_later_token_moves_an_earlier_state(network: TransformerNetwork, vocabulary: int) -> None:
    """Change the eighth of twelve tokens: not one bit of the states before it moves, and its own does."""
    ids = torch.randint(1, vocabulary, (1, 12))
    before = read(network, equal_rows(ids))
    other = ids.clone()
    other[0, 7] = (ids[0, 7] + 5) % (vocabulary - 1) + 1
    moved = (read(network, equal_rows(other)) != before).any(-1)
    assert moved.tolist()[:8] == [False] * 7 + [True]

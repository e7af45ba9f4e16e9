"""A decoder that reads texts and goes on with them, all of it anew for each token or with a key-value cache."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from genus.batch import Batch, Packed
from genus.model.cache import Cache, prompts, step
from hand import equal_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genus.model.transformer import Transformer, TransformerNetwork

LENGTHS = [5, 1, 9, 3]
STEPS = 6
DOUBLE = 1e-10
"""Of float64: sums of a hundred products in another order, through three layers."""


def built(model: Transformer, vocabulary: int) -> TransformerNetwork:
    """Return the network with weights large enough that states tell tokens apart."""
    torch.manual_seed(0)
    spread = replace(model.initialization, std=0.3)  # type: ignore[call-arg]
    network = cast("TransformerNetwork", replace(model, initialization=spread).build(vocabulary))
    return network.double().eval()


def texts(vocabulary: int) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randint(1, vocabulary, (length,)) for length in LENGTHS]


def next_ids(network: TransformerNetwork, states: Tensor) -> Tensor:
    return (states @ network.token_embedding.weight.T).argmax(-1)


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


def cached(
    network: TransformerNetwork, cache: Cache, first: Tensor, running: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the ids of each step after the first, and the states that they are told by."""
    ids = first
    while True:
        states = read(network, step(ids, cache, running), cache=cache)
        ids = next_ids(network, states)
        yield ids, states


def same_as_each_alone(network: TransformerNetwork, cache: Cache, given: list[Tensor]) -> None:
    """Generate after four packed prompts with a cache, and after each alone without: tokens and states are the same."""
    expected = [uncached(network, ids) for ids in given]
    packed = prompts([[given[2], given[1]], [given[3], given[0]]], 11, [[2, 1], [3, 0]])
    states = read(network, packed, cache=cache)
    last = {int(packed.facts["slot"][start]): end - 1 for start, end in packed.spans()}
    told = states[[last[slot] for slot in range(4)]]
    made, running = [next_ids(network, told)], torch.ones(4, dtype=torch.bool)
    assert cache.lengths.tolist() == LENGTHS
    every = [told]
    for ids, states in cached(network, cache, made[0], running):
        made.append(ids)
        every.append(states)
        if len(made) == STEPS:
            break
    for slot, (ids, states_alone) in enumerate(expected):
        assert [int(one[slot]) for one in made] == ids
        for one, alone in zip(every, states_alone, strict=True):
            torch.testing.assert_close(one[slot], alone, rtol=DOUBLE, atol=DOUBLE)


def no_later_token_moves_an_earlier_state(network: TransformerNetwork, vocabulary: int) -> None:
    """Change the eighth of twelve tokens: not one bit of the states before it moves, and its own does."""
    ids = torch.randint(1, vocabulary, (1, 12))
    before = read(network, equal_rows(ids))
    other = ids.clone()
    other[0, 7] = (ids[0, 7] + 5) % (vocabulary - 1) + 1
    moved = (read(network, equal_rows(other)) != before).any(-1)
    assert moved.tolist()[:8] == [False] * 7 + [True]

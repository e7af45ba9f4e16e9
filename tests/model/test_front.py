"""What stands in front of a text: for every sequence of a row, leaking nothing, and as the definition says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.nn import functional as F

from genus import catalog
from genus.batch import Batch, Packed
from genus.model.front import PrefixKeys, PromptVectors, Room
from genus.objectives import answering
from small import shrunk

if TYPE_CHECKING:
    from torch import Tensor

LENGTHS = [[9, 13], [20], [4, 6, 5]]
LENGTH, ROUNDING, NUMBER = 24, 2e-6, 5
MEMBERS = ["bert", "gpt2", "llama", "roberta", "albert", "gpt-j", "gpt3", "genus", "distilbert"]


def network_of(name: str, kind: str) -> Any:
    torch.manual_seed(0)
    network: Any = shrunk(catalog.load(name)).learner().network
    if kind == "prefix":
        host = network.prefix_host()
        host.prefix = PrefixKeys(host.key_shapes(), NUMBER, 6, host.hidden)
        torch.nn.init.normal_(host.prefix.table)
    else:
        host = network.prompt_host()
        host.embed.prompt = PromptVectors(torch.randn(NUMBER, host.choice.embedding_width), first=False)
    return network


def packed(rows: list[list[int]], length: int, seed: int = 0) -> Packed:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 100, (len(rows) * length,), generator=generator)
    return Packed.laid(ids, rows, length, {name: torch.zeros_like(ids) for name in ("segment", "prefix", "order")})


def states(network: Any, stream: Packed) -> Tensor:
    with torch.no_grad():
        found: Tensor = network.eval()(Batch({"tokens": stream}, {}))["tokens"]
    return found


@pytest.mark.parametrize("kind", ["prefix", "prompt"])
@pytest.mark.parametrize("name", MEMBERS)
def test_a_text_has_the_same_states_alone(name: str, kind: str) -> None:
    network, stream = network_of(name, kind), packed(LENGTHS, LENGTH)
    whole = states(network, stream)
    for start, end in stream.spans():
        alone = packed([[end - start]], end - start)
        assert torch.allclose(states(network, replace(alone, ids=stream.ids[start:end])), whole[start:end], atol=1e-5)


@pytest.mark.parametrize("kind", ["prefix", "prompt"])
@pytest.mark.parametrize("name", MEMBERS)
def test_not_a_bit_of_a_neighbor_moves(name: str, kind: str) -> None:
    network, stream, other = network_of(name, kind), packed(LENGTHS, LENGTH), packed(LENGTHS, LENGTH, seed=1)
    before = states(network, stream)
    for start, end in stream.spans():
        ids = stream.ids.clone()
        ids[start:end] = other.ids[start:end]
        moved = (states(network, replace(stream, ids=ids)) != before).any(-1)
        outside = torch.ones_like(moved)
        outside[start:end] = False
        real = stream.sequence >= 0
        assert not (moved & outside & real).any()
        assert moved[start:end].any()


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("kind", ["prefix", "prompt"])
def test_gradients_reach_all_that_is_in_front(name: str, kind: str) -> None:
    network = network_of(name, kind)
    network.train()(Batch({"tokens": packed(LENGTHS, LENGTH)}, {}))["tokens"].pow(2).sum().backward()
    front = network.prefix if kind == "prefix" else network.embed.prompt
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in front.parameters())


def test_a_prompt_is_as_tokens_with_these_vectors() -> None:
    """Whose embeddings are the vectors, in a sequence that is longer by them."""
    network, stream = network_of("bert", "prompt"), packed([[7]], 7)
    found = states(network, stream)
    prompt, network.embed.prompt = network.embed.prompt, None
    with torch.no_grad():
        network.embed.tokens.weight[:NUMBER] = prompt.vectors
    longer = packed([[7 + NUMBER]], 7 + NUMBER)
    ids = torch.cat([torch.arange(NUMBER), stream.ids + 100])
    with torch.no_grad():
        network.embed.tokens.weight[stream.ids + 100] = network_of("bert", "prompt").embed.tokens.weight[stream.ids]
    assert torch.allclose(states(network, replace(longer, ids=ids))[NUMBER:], found, atol=ROUNDING)


def test_attention_with_a_prefix_is_softmax_over_both() -> None:
    """Attention of one layer written out: keys of the prefix, then those of the text up to the query."""
    network, stream = network_of("gpt2", "prefix"), packed([[8]], 8)
    layer, (k, v) = network.layers[0].attention, network.prefix()[0]
    given: list[Any] = []
    layer.register_forward_hook(lambda module, args, output: given.append((args[0], output)))
    states(network, stream)
    x, output = given[0]
    q, own_k, own_v = (layer.by_head(project(x)) for project in (layer.query, layer.key, layer.value))
    expected = []
    for place in range(8):
        keys, values = torch.cat([k, own_k[: place + 1]]), torch.cat([v, own_v[: place + 1]])
        weights = F.softmax(torch.einsum("ad,kad->ak", q[place], keys) / layer.head_size**0.5, -1)
        expected.append(torch.einsum("ak,kad->ad", weights, values).flatten())
    assert torch.allclose(layer.out(torch.stack(expected)), output, atol=ROUNDING)


def test_a_prefix_shifts_the_positions_of_the_text() -> None:
    network, stream = network_of("gpt2", "prefix"), packed([[8]], 8)
    seen: list[Tensor] = []
    network.embed.positions.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    states(network, stream)
    assert seen[0].tolist() == list(range(NUMBER, NUMBER + 8))


def test_settling_a_prefix_changes_nothing() -> None:
    network, stream = network_of("bert", "prefix"), packed(LENGTHS, LENGTH)
    before = states(network, stream)
    network.prefix.settle()
    assert [name for name, _ in network.prefix.named_parameters()] == ["table"]
    assert torch.allclose(states(network, stream), before, atol=ROUNDING)


def test_room_keeps_the_entries_of_a_batch() -> None:
    """An empty example, of which a stream has no token, stays empty; rows grow alike; padding ends each row."""
    stream = packed([[3, 2], [6], []], 6)
    room = Room(stream, 2)
    assert room.row_length == 10
    assert room.offsets.diff().tolist() == [5, 4, 1, 8, 2, 10]
    assert room.number.view(3, 10).tolist() == [
        [1, 2, 0, 0, 0, 1, 2, 0, 0, 0],
        [1, 2, 0, 0, 0, 0, 0, 0, 0, 0],
        [0] * 10,
    ]
    assert room.place[:6].tolist() == [2, 3, 4, 7, 8, 9]
    assert room.heads[:6].tolist() == [0, 3, 4, 5, 8, 9]


def test_no_cache_is_kept_with_either() -> None:
    for kind in ("prefix", "prompt"):
        network = network_of("gpt2", kind)
        assert network.cache(10) is None
    assert shrunk(catalog.load("gpt2")).learner().network.cache(10) is not None


@pytest.mark.parametrize("kind", ["prefix", "prompt"])
def test_an_encoder_decoder_has_each_on_one_side(kind: str) -> None:
    torch.manual_seed(0)
    recipe = shrunk(catalog.load("t5"))
    learner = recipe.learner()
    network: Any = learner.network
    host: Any = network.prefix_host() if kind == "prefix" else network.prompt_host()
    assert host is (network.decoder if kind == "prefix" else network.encoder)
    if kind == "prefix":
        host.prefix = PrefixKeys(host.key_shapes(), NUMBER, None, host.hidden)
    else:
        host.embed.prompt = PromptVectors(torch.randn(NUMBER, host.choice.embedding_width), first=False)
    source, tokens = packed([[5, 7], [9]], 14), packed([[4, 6], [8]], 12, seed=1)
    with answering(learner):
        whole = network(Batch({"source": source, "tokens": tokens}, {}))
        assert whole["source"].shape[0] == 28
        for (a, b), (c, d) in zip(source.spans(), tokens.spans(), strict=True):
            alone = {
                name: replace(packed([[end - start]], end - start), ids=stream.ids[start:end])
                for name, stream, start, end in (("source", source, a, b), ("tokens", tokens, c, d))
            }
            found = network(Batch(alone, {}))
            assert torch.allclose(found["tokens"], whole["tokens"][c:d], atol=1e-5)

"""Relative attention against its equation written out, and what may reach what through layers and memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from genus.batch import Batch, Flow, Packed
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.model.attention.cached_relative import shift
from genus.model.attention.masks import AttentionMask, Causal, Full
from genus.model.attention.plan import Context
from genus.model.attention.relative import RelativeAttention, RelativeAttentionLayer
from genus.model.attention.two_stream import TwoStreamAttention
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.initialization import Normal
from genus.model.norm import Identity
from genus.model.position import NoPosition
from genus.model.segment_recurrence import SegmentRecurrentNetwork, SegmentRecurrentTransformer

DOUBLE = 1e-12
"""Relative; sums of tens of terms with 53 bits in another order."""
HIDDEN, HEADS, LENGTH, MEMORY, VOCABULARY = 12, 3, 10, 7, 50


def network(attention: RelativeAttention, memory: int = MEMORY, layers: int = 3) -> SegmentRecurrentNetwork:
    """Return a network in float64 without dropout, every weight large."""
    torch.manual_seed(0)
    model = SegmentRecurrentTransformer(
        layers=layers, hidden=HIDDEN, attention=replace(attention, dropout=0.0), feedforward=MLP(size=20),
        embedding=Embedding(segments=0, position=NoPosition(), norm=Identity(), dropout=0.0),
        dropout=0.0, initialization=Normal(std=0.5), memory=memory,
    )  # fmt: skip
    built = model.build(VOCABULARY).double().eval()
    assert isinstance(built, SegmentRecurrentNetwork)
    return built


def sequence(length: int, seed: int, **more: object) -> Example:
    rng = np.random.default_rng(seed)
    ids, segments = rng.integers(1, VOCABULARY, length), np.sort(rng.integers(0, 2, length))
    return Example({"tokens": Sequence(ids, segments, np.zeros(length, dtype=bool), **more)}, {})  # type: ignore[arg-type]


def changed(packed: Packed, cell: int) -> Packed:
    """Return the same with another token in a cell."""
    ids = packed.ids.clone()
    ids[cell] = ids[cell] % (VOCABULARY - 1) + 1
    return replace(packed, ids=ids)


def as_written(layer: RelativeAttentionLayer, x: Tensor, memory: Tensor, seen: list[list[bool]], sign: int) -> Tensor:
    """Return attention's output for one sequence by the equation of Dai et al. 2019, section 3.3, score by score."""
    choice, size = layer.choice, HIDDEN // HEADS
    query, key, value = (y.weight.view(HEADS, size, -1) for y in (layer.query, layer.key, layer.value))
    relative = layer.relative.weight.view(HEADS, size, -1)
    known = torch.cat([memory, x])
    rate = torch.tensor([10000 ** (-2 * n / HIDDEN) for n in range(HIDDEN // 2)], dtype=torch.float64)
    out = torch.zeros(len(x), HEADS, size, dtype=torch.float64)
    for i in range(len(x)):
        for head in range(HEADS):
            scores = torch.full((len(known),), -torch.inf, dtype=torch.float64)
            for j in range(len(known)):
                if not seen[i][j]:
                    continue
                distance = i + len(memory) - j
                if choice.clamp_len is not None:
                    distance = max(-choice.clamp_len, min(choice.clamp_len, distance))
                encoding = torch.cat([(sign * distance * rate).sin(), (sign * distance * rate).cos()])
                q, k, r = query[head] @ x[i], key[head] @ known[j], relative[head] @ encoding
                u, v = layer.content_bias[head], layer.position_bias[head]
                scores[j] = (q @ k + q @ r + u @ k + v @ r) / size**0.5
            out[i, head] = scores.softmax(0) @ (known @ value[head].T)
    return torch.einsum("iad,had->ih", out, layer.out.weight.view(HIDDEN, HEADS, size))


@pytest.mark.parametrize("visibility", [Causal(), Full()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("longest", [None, 4])
@pytest.mark.parametrize("backward", [False, True])
def test_the_equation(visibility: AttentionMask, longest: int | None, backward: bool) -> None:
    layer = network(RelativeAttention(heads=HEADS, mask=visibility, clamp_len=longest))._attentions()[0]
    packed = pack([[sequence(LENGTH, 0, continues=True, backward=backward)]], LENGTH, 0).tokens
    memory, x = (torch.randn(1, n, HIDDEN, dtype=torch.float64) for n in (MEMORY, LENGTH))
    remembered = torch.arange(MEMORY)[None] >= 2  # two positions are of another document
    context = Context(packed, memory={"remembered": remembered, "memory": memory[None]})
    found = layer(x[0], layer.plan(context), context.state(0))
    rule = [[not visibility.causal or j - MEMORY <= i for j in range(MEMORY + LENGTH)] for i in range(LENGTH)]
    seen = [[ok and j >= 2 for j, ok in enumerate(row)] for row in rule]
    expected = as_written(layer, x[0], memory[0], seen, -1 if backward else 1)
    torch.testing.assert_close(found, expected, rtol=DOUBLE, atol=DOUBLE)


def test_the_shift_trick() -> None:
    """Entry n of row i, for distance K - n, goes to the key j that is so far from i."""
    for length, memory in ((1, 0), (1, 3), (4, 0), (4, 3)):
        keys = length + memory
        scores = torch.arange(keys, -length, -1).float().expand(2, length, -1)
        expected = torch.arange(length)[:, None] + memory - torch.arange(keys)
        assert torch.equal(shift(scores, keys), expected.float().expand(2, -1, -1))


def run(net: SegmentRecurrentNetwork, batches: list[Packed]) -> list[dict[str, Tensor]]:
    """Return what a network gives for batches that go on from each other."""
    found, memory = [], net.initial_memory(batches[0].rows)
    with torch.no_grad():
        for packed in batches:
            states = net(Batch({"tokens": packed}, {}, memory=memory))
            memory = states.memory
            found.append(states.streams | memory)
    return found


def test_with_a_memory_long_enough_segments_are_one_text() -> None:
    """One layer, whose memory are embeddings, reads a text in pieces as it reads it whole."""
    net = network(RelativeAttention(heads=HEADS, mask=Causal()), memory=3 * LENGTH, layers=1)
    whole = sequence(3 * LENGTH, 0).tokens
    pieces = [
        replace(whole, ids=whole.ids[n : n + LENGTH], segments=whole.segments[n : n + LENGTH], continues=n > 0)
        for n in range(0, 3 * LENGTH, LENGTH)
    ]
    parts = run(net, [pack([[Example({"tokens": piece}, {})]], LENGTH, 0).tokens for piece in pieces])
    [together] = run(net, [pack([[Example({"tokens": whole}, {})]], 3 * LENGTH, 0).tokens])
    found = torch.cat([part["tokens"] for part in parts])
    torch.testing.assert_close(found, together["tokens"], rtol=DOUBLE, atol=DOUBLE)


@pytest.mark.parametrize(
    "attention", [RelativeAttention(heads=HEADS, mask=Causal()), TwoStreamAttention(heads=HEADS)], ids=str
)
def test_no_document_reaches_another(attention: RelativeAttention) -> None:
    """Three rows in a row of one stream: document 0; the rest of 0, then 1; the rest of 1 over two rows."""
    net = network(attention, memory=2 * LENGTH)
    rows = [
        [sequence(LENGTH, 0)],
        [sequence(4, 1, continues=True), sequence(6, 2)],
        [sequence(LENGTH, 3, continues=True)],
        [sequence(3, 4, continues=True), sequence(5, 5)],
    ]
    batches = [pack([row], LENGTH, 0).tokens for row in rows]
    before = run(net, batches)
    for step, cell, reached in ((0, 2, [(0, 10), (0, 4), (0, 0), (0, 0)]), (1, 7, [None, (4, 10), (0, 10), (0, 3)])):
        after = run(net, [changed(packed, cell) if n == step else packed for n, packed in enumerate(batches)])
        for old, new, cells in zip(before, after, reached, strict=True):
            touched = (old["tokens"] != new["tokens"]).any(-1)
            inside = torch.zeros(LENGTH, dtype=torch.bool)
            inside[slice(*(cells or (0, 0)))] = True
            assert not touched[~inside].any()
            assert touched.any() == bool(inside.any())


def test_a_row_that_does_not_go_on_remembers_nothing() -> None:
    net = network(RelativeAttention(heads=HEADS, mask=Causal()))
    first, second = (pack([[sequence(LENGTH, seed)]], LENGTH, 0).tokens for seed in (0, 1))
    [_, after], [alone] = run(net, [first, second]), run(net, [second])
    assert torch.equal(after["tokens"], alone["tokens"])


def test_what_only_looks_ahead_is_not_remembered() -> None:
    """XLNet's second half of a row: it may be any text, the memory is the same where the order keeps it apart."""
    net = network(TwoStreamAttention(heads=HEADS))
    order = np.repeat([0, LENGTH], [6, LENGTH - 6])
    one = sequence(LENGTH, 0, through=6, order=order)
    packed = pack([[one]], LENGTH, 0).tokens
    [first], [second] = run(net, [packed]), run(net, [changed(packed, 8)])
    assert torch.equal(first["memory"], second["memory"])
    assert first["remembered"].sum() == 6


@pytest.mark.parametrize("kept", [1, 5])
def test_memory_is_the_last_states_of_each_layer(kept: int) -> None:
    net = network(RelativeAttention(heads=HEADS), memory=kept)
    packed = pack([[sequence(4, 0), sequence(6, 1)], [sequence(LENGTH, 2)]], LENGTH, 0).tokens
    [found] = run(net, [packed])
    with torch.no_grad():
        first = net.embed(packed).view(2, LENGTH, HIDDEN)
    assert torch.equal(found["memory"][0], first[:, -kept:])
    assert found["remembered"].all()


def test_a_query_that_sees_nothing_gets_nothing() -> None:
    """All tokens are to be predicted, in order: the first one's second state knows no token at all."""
    net = network(TwoStreamAttention(heads=HEADS), memory=0)
    packed = pack([[sequence(LENGTH, 0, order=np.arange(1, LENGTH + 1))]], LENGTH, 0).tokens
    packed = replace(packed, query=torch.arange(LENGTH)[None])
    others = replace(packed, ids=packed.ids % (VOCABULARY - 1) + 1)
    found, other = (net(Batch({"tokens": one}, {}))["query"] for one in (packed, others))
    assert torch.equal(found[0], other[0])
    assert found.isfinite().all()
    assert not torch.equal(found[1:], other[1:])


def test_a_second_state_knows_what_comes_before_its_cell_and_no_more() -> None:
    """Change each token in turn: the states of cells that come no later in the order stay bitwise the same."""
    net = network(TwoStreamAttention(heads=HEADS), memory=0)
    order = np.random.default_rng(3).permutation(LENGTH)
    packed = pack([[sequence(LENGTH, 0, order=order)]], LENGTH, 0).tokens
    packed = replace(packed, query=torch.arange(LENGTH)[None])
    with torch.no_grad():
        before = net(Batch({"tokens": packed}, {}))
        for cell in range(LENGTH):
            after = net(Batch({"tokens": changed(packed, cell)}, {}))
            later = torch.from_numpy(order > order[cell])
            assert torch.equal((before["query"] != after["query"]).any(-1), later)
            assert torch.equal((before["tokens"] != after["tokens"]).any(-1), torch.from_numpy(order >= order[cell]))


def test_gradients_reach_no_memory_and_no_token_that_is_unseen() -> None:
    net = network(TwoStreamAttention(heads=HEADS), memory=MEMORY)
    order = np.random.default_rng(3).permutation(LENGTH)
    packed = pack([[sequence(LENGTH, 0, order=order, continues=True)]], LENGTH, 0).tokens
    packed = replace(packed, query=torch.arange(LENGTH)[None])
    states = torch.randn(3, 1, MEMORY, HIDDEN, dtype=torch.float64)
    memory = {"memory": states, "remembered": torch.ones(1, MEMORY).bool()}
    vectors: list[Tensor] = []
    net.embed.register_forward_hook(lambda *given: vectors.append(given[2].detach().requires_grad_()) or vectors[-1])
    found = net(Batch({"tokens": packed}, {}, memory=memory))
    assert not found.memory["memory"].requires_grad
    for cell in range(LENGTH):
        (gradient,) = torch.autograd.grad(found["query"][cell].sum(), vectors[-1], retain_graph=True)
        reached = (gradient != 0).any(-1)
        assert not (reached & torch.from_numpy(order >= order[cell])).any()


def test_choices_that_contradict_each_other() -> None:
    from genus.model.stack.sharing import CrossLayerSharing

    model = SegmentRecurrentTransformer(
        layers=2, hidden=12, attention=RelativeAttention(heads=3), feedforward=MLP(size=8)
    )
    with pytest.raises(ValueError, match="do not divide"):
        replace(model, attention=RelativeAttention(heads=5))
    with pytest.raises(ValueError, match="odd"):
        replace(model, hidden=9)
    with pytest.raises(ValueError, match="weights of their own"):
        replace(model, stack=CrossLayerSharing(groups=1))


def test_flow_is_told_by_the_first_and_the_last_sequence_of_a_row() -> None:
    rows = [[sequence(3, 0, continues=True), sequence(4, 1, through=2)], [], [sequence(LENGTH, 2, backward=True)]]
    flow = pack(rows, LENGTH, 0).tokens.flow
    assert isinstance(flow, Flow)
    assert flow.continues.tolist() == [True, False, False]
    assert flow.through.tolist() == [5, 0, LENGTH]
    assert flow.backward is not None
    assert flow.backward.tolist() == [False, False, True]

"""Layers with the same choice of attention share a plan, others do not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from genus import catalog
from genus.batch import Batch
from genus.model.attention.alternating import AlternatingAttention
from genus.model.attention.block_sparse.layer import BlockSparseAttention
from genus.model.attention.masks import Banded, Causal, Full
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.attention.plan import Context
from genus.model.block.parallel import Parallel
from genus.model.block.residual import PreNorm
from genus.model.feedforward.mlp import MLP
from genus.model.stack import plans_of
from genus.model.stack.sharing import CrossLayerSharing
from genus.model.transformer import Transformer
from hand import equal_rows

STACKS = ["Unshared", "CrossLayerSharing", "ReversibleStack"]


def alternating(first: MultiHeadAttention, second: MultiHeadAttention, stack: str) -> Transformer:
    model = catalog.load("bert/tiny").model
    assert isinstance(model, Transformer)
    attention = AlternatingAttention(attentions=(first, second), order=(0, 1))
    kinds = {"CrossLayerSharing": CrossLayerSharing(groups=2), "Unshared": model.stack}
    if stack == "ReversibleStack":
        from genus.model.stack.reversible import ReversibleStack

        kinds["ReversibleStack"] = ReversibleStack()
    block = PreNorm() if stack == "ReversibleStack" else model.block
    return replace(model, attention=attention, layers=2, pooler=None, stack=kinds[stack], block=block)


def reached(model: Transformer) -> list[bool]:
    """Return which of 8 tokens move when the last one does."""
    torch.manual_seed(0)
    network = model.build(50).eval()
    ids = torch.arange(1, 9)[None]
    other = ids.clone()
    other[0, -1] = 40
    with torch.no_grad():
        before, after = (network(Batch({"tokens": equal_rows(one)}, {}))["tokens"] for one in (ids, other))
    return (before != after).any(-1).tolist()


@pytest.mark.parametrize("stack", STACKS)
def test_each_layer_has_its_own_mask(stack: str) -> None:
    causal, full = MultiHeadAttention(heads=2, mask=Causal()), MultiHeadAttention(heads=2, mask=Full())
    assert reached(alternating(causal, causal, stack)) == [False] * 7 + [True]
    assert reached(alternating(causal, full, stack)) == [True] * 8
    narrow = MultiHeadAttention(heads=2, mask=Banded(width=2))
    assert reached(alternating(narrow, causal, stack)) == [False] * 7 + [True]


@pytest.mark.parametrize("stack", STACKS)
def test_each_layer_has_its_own_dropout(stack: str) -> None:
    model = alternating(MultiHeadAttention(heads=2, dropout=0.0), MultiHeadAttention(heads=2, dropout=0.9), stack)
    model = replace(model, dropout=0.0, embedding=replace(model.embedding, dropout=0.0))
    network = model.build(50).train()
    packed = equal_rows(torch.arange(1, 9)[None])
    plans = plans_of(list(network.layers.children()), Context(packed, training=True))  # type: ignore[union-attr]
    assert [plan["attention"].dropout for plan in plans] == [0.0, 0.9]
    batch = Batch({"tokens": packed}, {})
    assert not torch.equal(network(batch)["tokens"], network(batch)["tokens"])


def test_a_plan_is_made_once_for_each_choice() -> None:
    packed = equal_rows(torch.arange(1, 9)[None])
    for attention, plans in ((MultiHeadAttention(heads=2), 1), (BlockSparseAttention(heads=2, block_size=4), 1)):
        model = Transformer(layers=3, hidden=16, attention=attention, feedforward=MLP(size=16))
        found = plans_of(list(model.build(50).layers.children()), Context(packed))  # type: ignore[union-attr]
        assert len({id(plan["attention"]) for plan in found}) == plans


def test_parallel_sublayers_read_the_same_states() -> None:
    torch.manual_seed(0)
    model = Transformer(
        layers=1, hidden=16, attention=MultiHeadAttention(heads=2), feedforward=MLP(size=16), block=Parallel()
    )
    network = model.build(50).eval()
    packed = equal_rows(torch.arange(1, 9)[None])
    layer, context = network.layers[0], Context(packed)  # type: ignore[index]
    x = torch.randn(8, 16)
    y = layer.norm(x)
    expected = x + layer.attention(y, layer.attention.plan(context)) + layer.feedforward(y)
    [plans] = plans_of([layer], context)
    torch.testing.assert_close(layer(x, plans, {}), expected)
    assert model.parameters(50) == sum(weight.numel() for weight in network.parameters())

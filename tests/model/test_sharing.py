"""Layers that share weights, and embeddings narrower than the layers: what they compute and what they count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from genus import catalog
from genus.batch import Batch
from genus.cost import cost
from genus.errors import UsageError
from genus.model.embedding.tables import FactorizedEmbedding
from genus.model.skeleton import skeleton
from genus.model.stack.sharing import CrossLayerSharing, SharedAttention, SharedFeedForward, Unshared
from genus.model.transformer import Transformer

if TYPE_CHECKING:
    from genus.model.stack import Stack

MakeBatch = Callable[..., Batch]
MakeEncoder = Callable[..., Transformer]
VOCABULARY = 67
DOUBLE = 1e-10
"""Relative; float64 has 53 bits, 1e-16: sums of a few hundred terms in another order, magnified by a few layers."""
LAYERS = 4
MILLIONS = {
    (768, "all"): 31, (768, "attention"): 83, (768, "feed-forward"): 57, (768, "none"): 108,
    (128, "all"): 12, (128, "attention"): 64, (128, "feed-forward"): 38, (128, "none"): 89,
}  # fmt: skip
"""Lan et al. 2019, table 4: ALBERT-base by embedding size and by what is shared."""
ROUNDED = 0.03
"""The authors round to millions, and do not say whether pooler and projection are among them."""
STACKS: dict[str, Stack] = {
    "all": CrossLayerSharing(),
    "attention": SharedAttention(),
    "feed-forward": SharedFeedForward(),
    "none": CrossLayerSharing(groups=12),
}


def separate(make_encoder: MakeEncoder, shared: torch.nn.Module, order: list[int]) -> torch.nn.Module:
    """Return a network of separate layers with the weights of another's, layer i those of its layer order[i]."""
    network = make_encoder(layers=LAYERS).build(VOCABULARY).to(next(shared.parameters()).dtype)
    state = shared.state_dict()
    for name in network.state_dict():
        if name.startswith("layers."):
            _, number, rest = name.split(".", 2)
            state[name] = shared.state_dict()[f"layers.{order[int(number)]}.{rest}"]
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    return network


@pytest.mark.parametrize(
    ("stack", "order"),
    [
        (CrossLayerSharing(groups=1), [0, 0, 0, 0]),
        (CrossLayerSharing(groups=2), [0, 0, 1, 1]),
        (CrossLayerSharing(groups=3), [0, 0, 1, 2]),
        (CrossLayerSharing(groups=4), [0, 1, 2, 3]),
        (SharedAttention(), [0, 1, 2, 3]),
        (SharedFeedForward(), [0, 1, 2, 3]),
        (Unshared(), [0, 1, 2, 3]),
    ],
    ids=str,
)
def test_sharing_is_separate_layers_of_equal_weights(
    make_batch: MakeBatch, make_encoder: MakeEncoder, stack: Stack, order: list[int]
) -> None:
    torch.manual_seed(0)
    network = replace(make_encoder(layers=LAYERS), stack=stack).build(VOCABULARY)
    batch = make_batch([[12, 20], [30]], 40)
    with torch.no_grad():
        expected = separate(make_encoder, network, order)(batch)["tokens"]
        assert torch.equal(network(batch)["tokens"], expected)


@pytest.mark.parametrize(("stack", "part"), [(SharedAttention(), "attention"), (SharedFeedForward(), "feedforward")])
def test_one_sub_layer_learns_for_all(
    make_batch: MakeBatch, make_encoder: MakeEncoder, stack: Stack, part: str
) -> None:
    """Its gradient is the sum over the layers; each weight is one parameter under its first name."""
    torch.manual_seed(0)
    network = replace(make_encoder(layers=LAYERS), stack=stack).build(VOCABULARY).double()
    apart = separate(make_encoder, network, [0, 1, 2, 3])
    batch = make_batch([[12, 20], [30]], 40)
    for one in (network, apart):
        one(batch)["tokens"].square().sum().backward()
    own, theirs = dict(network.named_parameters()), dict(apart.named_parameters())
    names = [name for name in own if f".{part}." in name]
    assert names
    assert all(name.startswith("layers.0.") for name in names)
    largest = max(weight.grad.abs().max().item() for weight in own.values() if weight.grad is not None)
    for name in names:
        total = sum(theirs[name.replace("layers.0.", f"layers.{i}.")].grad for i in range(LAYERS))  # type: ignore[misc]
        torch.testing.assert_close(own[name].grad, total, rtol=DOUBLE, atol=DOUBLE * largest)


@pytest.mark.parametrize(("size", "shared"), MILLIONS)
def test_parameters_of_albert_s_ablation(size: int, shared: str) -> None:
    row = catalog.load("albert/base", [f"model.embedding.size={size}"])
    model = row.model
    assert isinstance(model, Transformer)
    row = replace(row, model=replace(model, stack=STACKS[shared]))
    with skeleton():
        learner = row.learner()
    count = sum(parameter.numel() for parameter in learner.network.parameters())
    assert count == cost(row).network
    assert abs(count / 1e6 / MILLIONS[size, shared] - 1) < ROUNDED


@pytest.mark.parametrize("stack", [CrossLayerSharing(groups=2), SharedAttention(), SharedFeedForward()], ids=str)
def test_sharing_saves_parameters_and_no_work(make_encoder: MakeEncoder, stack: Stack) -> None:
    model = make_encoder(layers=LAYERS)
    shared = replace(model, stack=stack)
    whole, part = (one.cost(VOCABULARY, {"tokens": 40}) for one in (model, shared))
    assert (part.flops, part.activations) == (whole.flops, whole.activations)
    assert part.parameters == sum(p.numel() for p in shared.build(VOCABULARY).parameters()) < whole.parameters


@pytest.mark.parametrize(("groups", "message"), [(0, "at least 1, got 0"), (3, "1 to 2, the number of layers")])
def test_groups_that_there_are_no_layers_for(groups: int, message: str) -> None:
    with pytest.raises(UsageError, match=rf"stack\.groups: expected {message}"):
        catalog.load("albert/tiny", [f"model.stack.groups={groups}"])


def test_the_head_is_as_wide_as_the_embedding(make_encoder: MakeEncoder) -> None:
    model = replace(make_encoder(), embedding=FactorizedEmbedding(size=12))
    assert (model.width, model.embedding_width) == (32, 12)
    network = model.build(VOCABULARY)
    assert network.token_embedding.weight.shape == (VOCABULARY, 12)


def test_a_narrow_embedding_is_a_product_of_two_matrices(make_batch: MakeBatch, make_encoder: MakeEncoder) -> None:
    network = replace(make_encoder(), embedding=FactorizedEmbedding(size=12, dropout=0.0)).build(VOCABULARY).double()
    tokens = make_batch([[12, 20], [30]], 40).tokens
    embed = network.embed
    x = embed.tokens.weight[tokens.ids] + embed.segments.weight[tokens.facts["segment"]]
    x = x + embed.positions.table.weight[tokens.positions]
    normed = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-12).sqrt()
    expected = normed @ embed.projection.weight.T + embed.projection.bias
    torch.testing.assert_close(embed(tokens), expected, rtol=0, atol=DOUBLE)

"""Pre-norm layers: the order of norms and residuals, and the scale that weights start from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from genus.batch import Batch
from genus.model.block.residual import PreNorm
from genus.model.norm import Identity
from genus.model.stack.sharing import CrossLayerSharing, SharedAttention, Unshared
from genus.model.transformer import Transformer

if TYPE_CHECKING:
    from genus.model.stack import Stack

MakeBatch = Callable[..., Batch]
MakeEncoder = Callable[..., Transformer]
VOCABULARY = 67
STD = 0.3
"""Standard deviation of the encoder under test."""


def normed(x: Tensor, norm: torch.nn.Module) -> Tensor:
    """Return a layer normalization, as its paper writes it."""
    centered = x - x.mean(-1, keepdim=True)
    return centered / (centered.square().mean(-1, keepdim=True) + 1e-12).sqrt() * norm.weight + norm.bias


def test_the_order_of_norms_and_residuals(make_batch: MakeBatch, make_encoder: MakeEncoder) -> None:
    """A transcription of figure 7 (b) of the Megatron paper, for one sequence that fills its row."""
    torch.manual_seed(0)
    model = replace(make_encoder(layers=3), block=PreNorm())
    network = model.build(VOCABULARY).double()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "norm" in name:
                weight.add_(torch.randn_like(weight) / 4)
    batch = make_batch([[20]], 20)
    x = network.embed(batch.tokens)
    for layer in network.layers:
        attention, y = layer.attention, normed(x, layer.attention_norm)
        q, k, v = (
            project(y).view(20, 4, 8).transpose(0, 1) for project in (attention.query, attention.key, attention.value)
        )
        mixed = (q @ k.transpose(1, 2) / math.sqrt(8)).softmax(-1) @ v
        x = x + layer.attention.out(mixed.transpose(0, 1).reshape(20, 32))
        x = x + layer.feedforward(normed(x, layer.feedforward_norm))
    torch.testing.assert_close(network(batch)["tokens"], normed(x, network.norm))


@pytest.mark.parametrize("stack", [Unshared(), SharedAttention()], ids=str)
def test_maps_that_end_a_sub_layer_start_smaller(make_encoder: MakeEncoder, stack: Stack) -> None:
    """Once, in however many layers a shared one stands; 5 standard errors of a standard deviation from n numbers."""
    torch.manual_seed(0)
    network = replace(make_encoder(layers=8), block=PreNorm(), stack=stack).build(VOCABULARY)
    for layer in network.layers:
        for weight, std in (
            (layer.attention.query.weight, STD),
            (layer.attention.out.weight, STD / 4),
            (layer.feedforward.inner.weight, STD),
            (layer.feedforward.out.weight, STD / 4),
        ):
            assert abs(weight.std().item() / std - 1) < 5 / math.sqrt(2 * weight.numel())


def test_the_sum_of_residuals_does_not_grow_with_the_depth(make_batch: MakeBatch, make_encoder: MakeEncoder) -> None:
    batch = make_batch([[20]], 20)
    spreads = []
    for layers in (2, 32):
        torch.manual_seed(0)
        network = replace(make_encoder(layers=layers), block=PreNorm()).build(VOCABULARY)
        network.norm = torch.nn.Identity()
        with torch.no_grad():
            spreads.append(network(batch)["tokens"].std().item())
    assert 0.5 < spreads[1] / spreads[0] < 2


def test_demand_of_pre_norm(make_encoder: MakeEncoder) -> None:
    model = make_encoder()
    model = replace(model, block=PreNorm(), embedding=replace(model.embedding, norm=Identity()))
    assert model.parameters(VOCABULARY) == sum(p.numel() for p in model.build(VOCABULARY).parameters())


def test_the_first_norm_left_out(make_batch: MakeBatch, make_encoder: MakeEncoder) -> None:
    """Layer 0 attends to the embeddings as they are, the others to normed states; the cost counts one norm less."""
    torch.manual_seed(0)
    model = replace(make_encoder(layers=3), block=PreNorm(first_norm=False))
    network, batch = model.build(VOCABULARY).double(), make_batch([[20]], 20)
    assert [type(layer.attention_norm) for layer in network.layers] == [
        torch.nn.Identity,
        torch.nn.LayerNorm,
        torch.nn.LayerNorm,
    ]
    with_norm, lengths = replace(model, block=PreNorm()), {"tokens": 20}
    assert with_norm.cost(VOCABULARY, lengths).parameters - model.cost(VOCABULARY, lengths).parameters == 2 * 32
    assert sum(weight.numel() for weight in network.parameters()) == model.cost(VOCABULARY, lengths).parameters
    whole = with_norm.build(VOCABULARY).double()
    whole.load_state_dict(network.state_dict(), strict=False)
    whole.layers[0].attention_norm = torch.nn.Identity()
    torch.testing.assert_close(network(batch)["tokens"], whole(batch)["tokens"], rtol=0, atol=0)


def test_layers_that_share_weights_are_alike(make_encoder: MakeEncoder) -> None:
    """A first layer without a norm cannot share its weights with the others."""
    with pytest.raises(ValueError, match="first_norm"):
        replace(make_encoder(layers=3), block=PreNorm(first_norm=False), stack=CrossLayerSharing())

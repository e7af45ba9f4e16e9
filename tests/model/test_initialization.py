"""What weights start from, and who draws them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from genus import catalog
from genus.model.attention.linformer import LinformerAttention
from genus.model.attention.relative import RelativeAttention
from genus.model.attention.two_stream import TwoStreamAttention
from genus.model.block.residual import PreNorm
from genus.model.initialization import Glorot, Initialization, Normal, Role, initialize
from genus.model.stack.sharing import SharedAttention

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.model.attention import Attention
    from genus.model.transformer import Transformer

VOCABULARY, STD = 67, 0.3


def spread(weight: Tensor, std: float) -> bool:
    """Say whether a standard deviation is as it should be, within 5 standard errors of one from n numbers."""
    return abs(weight.std().item() / std - 1) < 5 / math.sqrt(2 * weight.numel())


@pytest.mark.parametrize(
    "attention",
    [
        RelativeAttention(heads=4),
        TwoStreamAttention(heads=4),
        LinformerAttention(heads=4, rank=6, length=600, sharing="none"),
    ],
    ids=lambda part: type(part).__name__,
)
def test_a_plain_encoder_draws_all_that_its_attention_holds(
    make_encoder: Callable[..., Transformer], attention: Attention
) -> None:
    """Vectors of relative attention as weights; biases of linear maps are 0, and so are those of mixtures."""
    torch.manual_seed(0)
    network = replace(make_encoder(), attention=attention).build(VOCABULARY)
    for name, weight in network.named_parameters():
        zero = name.endswith(".bias") or name.endswith(("key_bias", "value_bias"))
        if "norm" in name:
            assert torch.equal(weight, torch.full_like(weight, 0.0 if zero else 1.0)), name
        elif zero:
            assert not weight.any(), name
        else:
            assert spread(weight, STD), name


class ByWidth(Initialization):
    """A scheme that depends on the role and on the width, as muP does; numbers are not drawn, but told."""

    base: int = 8

    def draw(self, weight: Tensor, role: Role, scale: float = 1.0) -> None:
        """Fill with the standard deviation."""
        nn.init.constant_(weight, scale * (self.base / weight.shape[-1] if role == "hidden" else 1.0))


def test_another_scheme_is_a_part(make_encoder: Callable[..., Transformer]) -> None:
    """Embeddings and vectors of any width start alike; maps that end a residual branch are scaled besides, once."""
    attention = RelativeAttention(heads=4)
    model = replace(make_encoder(layers=8), attention=attention, block=PreNorm(), stack=SharedAttention())
    network = replace(model, initialization=ByWidth()).build(VOCABULARY)
    first = network.get_submodule("layers.0")
    expected = {
        "attention.query": 8 / 32, "attention.key": 8 / 32, "attention.value": 8 / 32, "attention.relative": 8 / 32,
        "attention.out": 8 / 32 / 4, "feedforward.inner": 8 / 32, "feedforward.out": 8 / 48 / 4,
    }  # fmt: skip
    for name, value in expected.items():
        weight = first.get_submodule(name).get_parameter("weight")
        assert torch.equal(weight, torch.full_like(weight, value)), name
    for name in ("layers.0.attention.content_bias", "embed.tokens.weight", "embed.positions.table.weight"):
        assert bool((network.get_parameter(name) == 1.0).all()), name


def test_what_is_drawn_hangs_on_the_seed_and_each_module_is_drawn_once() -> None:
    drawn: list[Tensor] = []

    class Counted(Normal):
        def draw(self, weight: Tensor, role: Role, scale: float = 1.0) -> None:
            drawn.append(weight)
            super().draw(weight, role, scale)

    one = nn.Linear(3, 4)
    shared = nn.ModuleList([one, nn.Sequential(one), nn.Embedding(5, 3), nn.LayerNorm(3)])
    initialize(shared, Counted(std=STD))
    assert [weight.shape for weight in drawn] == [(4, 3), (5, 3)]
    assert not one.bias.any()


def test_it_is_set_from_the_command_line() -> None:
    model = catalog.load("bert/tiny", ["model.initialization.std=0.05"]).model
    assert model.initialization == Normal(std=0.05)  # type: ignore[attr-defined]


def test_glorot_draws_maps_by_their_sizes() -> None:
    torch.manual_seed(0)
    wide, table = nn.Linear(300, 500), nn.Embedding(400, 50)
    for part in (wide, table):
        initialize(part, Glorot(embedding_std=STD))
    bound = math.sqrt(6 / 800)
    assert 0.99 * bound < float(wide.weight.detach().abs().max()) <= bound
    assert spread(wide.weight, bound / math.sqrt(3))
    assert spread(table.weight, STD)
    assert not wide.bias.any()

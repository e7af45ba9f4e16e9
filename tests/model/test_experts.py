"""Experts, their load balance, and product-key memory, against their papers' equations written out slowly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import torch

from genus.batch import Batch
from genus.model.attention.two_stream import TwoStreamAttention
from genus.model.block.evolved import Evolved
from genus.model.encoder_decoder import mirrored
from genus.model.feedforward import Routing
from genus.model.feedforward.alternating import AlternatingFeedForward
from genus.model.feedforward.experts import ExpertsLayer, MixtureOfExperts, Switch
from genus.model.feedforward.mlp import MLP
from genus.model.feedforward.product_keys import ProductKeyMemory
from genus.model.position import NoPosition
from genus.model.segment_recurrence import SegmentRecurrentTransformer
from model.written_layers import (
    DOUBLE,
    ENCODER,
    HIDDEN,
    ROWS,
    VOCABULARY,
    packed,
    states,
)


@pytest.mark.parametrize("choice", [Switch, MixtureOfExperts], ids=lambda kind: kind.__name__)
def test_experts_and_the_load_balancing_loss(choice: Any) -> None:
    """Token by token; the loss by Fedus et al.'s equations 4 to 6, over real tokens alone."""
    torch.manual_seed(0)
    layer = choice(expert=MLP(size=9), experts=5).build(HIDDEN).double()
    x, real = states(), packed().sequence >= 0
    routing = Routing(real)
    found, expected = layer(x, routing), torch.zeros_like(x)
    chances = (x @ layer.router.weight.T).softmax(-1)
    for t in real.nonzero()[:, 0].tolist():
        best = sorted(range(5), key=lambda i: -chances[t, i].item())[: 1 if choice is Switch else 2]
        whole = 1.0 if choice is Switch else sum(chances[t, i] for i in best)
        expected[t] = sum(chances[t, i] / whole * layer.experts[i](x[t]) for i in best)
    torch.testing.assert_close(found, expected, rtol=DOUBLE, atol=DOUBLE)
    first = chances[real].argmax(-1)
    share = [(first == i).double().mean() for i in range(5)]
    mean = [chances[real, i].mean() for i in range(5)]
    loss = 0.01 * 5 * sum(f * p for f, p in zip(share, mean, strict=True)) * real.sum()
    torch.testing.assert_close(routing.losses["load_balance"], loss, rtol=DOUBLE, atol=DOUBLE)
    assert routing.losses.keys() == {"load_balance"}


def test_the_load_balancing_loss_is_transformers() -> None:
    """Their function is of one layer's probabilities, for one expert a token."""
    switch = pytest.importorskip("transformers.models.switch_transformers.modeling_switch_transformers")
    layer = cast("ExpertsLayer", Switch(expert=MLP(size=9), experts=5, balance=1.0).build(HIDDEN).double())
    x, routing = states(), Routing(torch.ones(36, dtype=torch.bool))
    layer(x, routing)
    chances = layer.chances(x)
    theirs = switch.load_balancing_loss_func(chances[None], chances.argmax(-1)[None])
    torch.testing.assert_close(routing.losses["load_balance"] / 36, theirs.double(), rtol=1e-6, atol=0)


def test_a_capacity_drops_late_tokens_and_second_choices_in_training_alone() -> None:
    torch.manual_seed(0)
    choice = MixtureOfExperts(expert=MLP(size=9), experts=3, capacity=0.5)
    layer = cast("ExpertsLayer", choice.build(HIDDEN).double())
    x, real, most = states(), packed().sequence >= 0, int(0.5 * 36 / 3)
    routing = Routing(real)
    found = layer(x, routing)
    top, expert = (x @ layer.router.weight.T).softmax(-1).topk(2)
    taken, room, expected = {}, [most] * 3, torch.zeros_like(x)
    for rank in range(2):
        for t in real.nonzero()[:, 0].tolist():
            if room[i := int(expert[t, rank])]:
                room[i] -= 1
                taken[t, rank] = i
    for (t, rank), i in taken.items():
        expected[t] += top[t, rank] / top[t].sum() * layer.experts[i](x[t])
    torch.testing.assert_close(found, expected, rtol=DOUBLE, atol=DOUBLE)
    assert routing.losses["load_balance/dropped"].item() == 2 * int(real.sum()) - len(taken) > 0
    whole = replace(choice, capacity=None).build(HIDDEN).double().eval()
    whole.load_state_dict(layer.state_dict())
    assert torch.equal(layer.eval()(x, Routing(real)), whole(x, Routing(real)))


def test_auxiliary_losses_are_losses_of_the_run() -> None:
    """Of both sides, summed over layers, counted by real tokens; the balance is learned."""
    encoder = replace(ENCODER, feedforward=Switch(expert=MLP(size=9), experts=3))
    network = cast("Any", mirrored(encoder, NoPosition()).build(VOCABULARY))
    batch = Batch({"tokens": packed(), "source": packed()}, {})
    losses, counts = network(batch).losses, network.counts(batch)
    assert losses.keys() == counts.keys() == {"encoder_load_balance", "decoder_load_balance"}
    assert counts["encoder_load_balance"] == sum(map(sum, ROWS))
    losses["decoder_load_balance"].backward()
    assert all(bool(layer.feedforward.router.weight.grad.any()) for layer in network.decoder.layers)
    alternating = AlternatingFeedForward(feedforwards=(MLP(size=9), Switch(expert=MLP(size=9), experts=3)))
    one = cast("Any", replace(ENCODER, layers=3, feedforward=alternating).build(VOCABULARY))
    kinds = [type(layer.feedforward).__name__ for layer in one.layers]
    assert kinds == ["MLPLayer", "ExpertsLayer", "MLPLayer"]
    assert one(Batch({"tokens": packed()}, {})).losses.keys() == {"load_balance"}


def test_product_keys() -> None:
    """All keys² scores are compared, value by value; the two halves of a query are normalized apart."""
    torch.manual_seed(0)
    choice = ProductKeyMemory(keys=5, key_size=6, heads=2, chosen=3)
    layer = cast("Any", choice.build(HIDDEN).double())
    x = states()
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(torch.randn_like(weight))
    keys, expected = layer.keys.view(2, 2, 5, 3), torch.zeros_like(x)
    for t in range(len(x)):
        query = layer.norm(layer.query(x[t]).view(2, 2, 3))
        for head in range(2):
            scores = {
                (i, j): (query[head, 0] @ keys[head, 0, i] + query[head, 1] @ keys[head, 1, j]).item()
                for i in range(5) for j in range(5)
            }  # fmt: skip
            best = sorted(scores, key=lambda pair: -scores[pair])[:3]
            weights = torch.tensor([scores[pair] for pair in best], dtype=torch.float64).softmax(0)
            expected[t] += sum(w * layer.values[5 * i + j] for w, (i, j) in zip(weights, best, strict=True))
    torch.testing.assert_close(layer(x), expected, rtol=1e-6, atol=1e-6)  # its softmax is in float32


def test_states_of_a_query_stream_are_sent_to_experts_too() -> None:
    """XLNet's: the loss is over both, and padding has none; layers that mix neighbors are refused there."""
    feedforward = Switch(expert=MLP(size=9), experts=3)
    model = SegmentRecurrentTransformer(
        layers=2, hidden=HIDDEN, attention=TwoStreamAttention(heads=3), feedforward=feedforward,
        embedding=replace(ENCODER.embedding, position=NoPosition()), dropout=0.0,
    )  # fmt: skip
    network = cast("Any", model.build(VOCABULARY)).eval()
    facts = {name: torch.zeros(36, dtype=torch.long) for name in ("segment", "order")}
    asked = replace(packed(), query=torch.tensor([[0, 1], [12, 20], [24, 25]]), facts=facts)
    found = network(Batch({"tokens": asked}, {}))
    assert found["query"].isfinite().all()
    assert found.losses.keys() == {"load_balance"}
    with pytest.raises(ValueError, match="Evolved mixes neighbors"):
        replace(model, block=Evolved())

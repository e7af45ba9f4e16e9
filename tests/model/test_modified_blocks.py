"""Blocks of modifications, and transparent attention, against their papers' equations written out slowly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from genus.batch import Batch
from genus.model.activation import Elu, Linear, Relu, Selu, Sigmoid, Silu, Softplus
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.attention.plan import Context
from genus.model.block.branched import Branched
from genus.model.block.evolved import Evolved, filled
from genus.model.block.fixup import Fixup
from genus.model.block.rezero import ReZero
from genus.model.encoder_decoder import mirrored
from genus.model.feedforward.mlp import MLP
from genus.model.initialization import Glorot
from genus.model.norm import Identity, LayerNorm
from genus.model.position import NoPosition
from genus.model.stack.reversible import ReversibleStack
from genus.model.transparent import TransparentEncoderDecoder
from model.written_layers import (
    ENCODER,
    HIDDEN,
    VOCABULARY,
    attended,
    built,
    compare,
    packed,
    spans,
    states,
    through,
)


@pytest.mark.parametrize(
    ("activation", "formula"),
    [
        (Elu(), lambda x: x if x > 0 else np.exp(x) - 1),
        (Selu(), lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * (np.exp(x) - 1))),
        (Sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
        (Silu(), lambda x: x / (1 + np.exp(-x))),
        (Softplus(), lambda x: np.log(1 + np.exp(x))),
        (Linear(), lambda x: x),
    ],
    ids=str,
)
def test_activation_functions(activation: Any, formula: Any) -> None:
    x = np.linspace(-4, 4, 41)
    found = activation.build()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, [formula(one) for one in x], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", [Identity(), LayerNorm()], ids=str)
def test_rezero(norm: Any) -> None:
    """x + alpha f(norm(x)) for attention, then the feed-forward network; at first the identity."""
    network = built(replace(ENCODER, block=ReZero(), norm=norm))
    layer, x = network.layers[0], states()
    expected = {}
    for start, end in spans():
        y = x[start:end]
        heads = attended(layer.attention, layer.attention_norm(y)).flatten(1)
        y = y + layer.alpha * layer.attention.out(heads)
        expected[start, end] = y + layer.alpha * layer.feedforward(layer.feedforward_norm(y))
    compare(through(network, layer, x), expected)
    fresh = cast("Any", replace(ENCODER, block=ReZero(), norm=norm).build(VOCABULARY)).layers[0]
    assert torch.equal(through(network, fresh.double(), x), x)


def test_rezero_in_reversible_layers() -> None:
    """The branches of a reversible layer have alpha too."""
    network = built(replace(ENCODER, layers=1, block=ReZero(), stack=ReversibleStack()))
    layer, x = network.layers[0], states()
    start, end = spans()[0]
    first = x[start:end]
    first = first + layer.alpha * layer.attention.out(attended(layer.attention, layer.attention_norm(first)).flatten(1))
    second = x[start:end] + layer.alpha * layer.feedforward(layer.feedforward_norm(first))
    found = network.layers(x, Context(packed()))[start:end]
    torch.testing.assert_close(found, torch.cat([first, second], -1), rtol=1e-8, atol=1e-8)  # rounded to 2^-36


def test_fixup() -> None:
    """x + scale · f(x + shift), branches of 0 at first, inner maps L^(-1/6) and L^(-1/2) of their size."""
    model = replace(ENCODER, layers=3, block=Fixup(), norm=Identity(), initialization=Glorot())
    network = built(model)
    layer, x, expected = network.layers[1], states(), {}
    for start, end in spans():
        y, one, two = x[start:end], layer.attention_norm, layer.feedforward_norm
        y = y + one.scale * layer.attention.out(attended(layer.attention, y + one.shift).flatten(1))
        expected[start, end] = y + two.scale * layer.feedforward(y + two.shift)
    compare(through(network, layer, x), expected)
    wide = replace(model, hidden=120, attention=MultiHeadAttention(heads=3), feedforward=MLP(size=200))
    fresh = cast("Any", wide.build(VOCABULARY)).layers[0]
    assert not fresh.attention.out.weight.any()
    assert not fresh.feedforward.out.weight.any()
    bound = {"query": (6 / 240) ** 0.5 * 6 ** (-1 / 6), "inner": (6 / 320) ** 0.5 * 6**-0.5}
    for module, name in ((fresh.attention, "query"), (fresh.feedforward, "inner")):
        assert getattr(module, name).weight.abs().max().item() == pytest.approx(bound[name], rel=0.01)
    more = cast("Any", replace(wide, block=Fixup(branches=20)).build(VOCABULARY)).layers[0]
    assert more.feedforward.inner.weight.abs().max().item() == pytest.approx((6 / 320) ** 0.5 * 20**-0.5, rel=0.01)


@pytest.mark.parametrize("bias", [False, True])
def test_branched(bias: bool) -> None:
    """x + Σ alpha_a f(κ_a W_a head_a): of both attention sub-layers, each with a network of its own."""
    attention = MultiHeadAttention(heads=3, bias=bias, dropout=0.0)
    encoder = replace(ENCODER, block=Branched(), attention=attention)
    network = cast("Any", built(cast("Any", mirrored(encoder, NoPosition()))))
    layer, x, seen, expected = network.decoder.layers[0], states(), states(6), {}
    from genus.model.attention.plan import Source

    for start, end in spans():
        y, source = x[start:end], seen[start:end]
        for name, given, causal in (("", None, True), ("cross_", source, False)):
            own = layer.cross if name else layer.attention
            norm = layer.cross_norm if name else layer.attention_norm
            feed, weights = getattr(layer, f"{name}feedforward"), getattr(layer, f"{name}weights")
            heads = attended(own, norm(y), given, causal)
            total = torch.zeros_like(y)
            for a in range(3):
                part = own.out.weight[:, a * 4 : a * 4 + 4]
                branch = heads[:, a] @ part.T + (own.out.bias if bias else 0.0)
                total = total + weights.alpha.softmax(0)[a] * feed(weights.kappa.softmax(0)[a] * branch)
            y = y + total
        expected[start, end] = y
    compare(through(network, layer, x, source=Source(packed(), seen)), expected)


def convolution(x: Tensor, kernel: Tensor, before: int, after: int) -> Tensor:
    """Return PyTorch's convolution of one document (L, C), with kernels (outputs, C / groups, width)."""
    groups = x.shape[1] // kernel.shape[1]
    return F.conv1d(F.pad(x.T, (before, after)), kernel, groups=groups).T


def separable(module: Any, x: Tensor, before: int, after: int) -> Tensor:
    return module.pointwise(convolution(x, module.kernel[:, None], before, after))  # type: ignore[no-any-return]


def test_evolved_encoder() -> None:
    network = built(replace(ENCODER, block=Evolved(), feedforward=MLP(size=20, activation=Relu())))
    layer, x, expected = network.layers[0], states(), {}
    for start, end in spans():
        y = x[start:end]
        z = layer.norms[0](y)
        y = y + layer.values(z) * layer.gates(z).sigmoid()
        z = layer.norms[1](y)
        kernel = layer.right.weight.unflatten(1, (3, HIDDEN)).transpose(1, 2)
        right = F.relu(convolution(z, kernel, 1, 1) + layer.right.bias)
        both = layer.inner_norm(F.relu(layer.left(z)) + filled(right, 4 * HIDDEN))
        y = y + filled(separable(layer.separable, both, 4, 4), HIDDEN)
        y = y + layer.attention.out(attended(layer.attention, layer.norms[2](y)).flatten(1))
        expected[start, end] = y + layer.feedforward(layer.norms[3](y))
    compare(through(network, layer, x), expected)


def test_evolved_decoder() -> None:
    from genus.model.attention.plan import Source

    model = mirrored(replace(ENCODER, block=Evolved()), NoPosition())
    network = cast("Any", built(cast("Any", model)))
    layer, x, seen, expected = network.decoder.layers[0], states(), states(6), {}
    assert layer.wide_attention.head_size == layer.attention.head_size // 2
    for start, end in spans():
        y, source = x[start:end], seen[start:end]
        z = layer.norms[0](y)
        y = (
            y
            + layer.wide_attention.out(attended(layer.wide_attention, z, None, True).flatten(1))
            + layer.first_cross.out(attended(layer.first_cross, z, source).flatten(1))
        )
        z = layer.norms[1](y)
        left, right = F.relu(separable(layer.left, z, 10, 0)), separable(layer.right, z, 6, 0)
        y = y + separable(layer.separable, layer.inner_norm(left + filled(right, 2 * HIDDEN)), 6, 0)
        y = y + layer.attention.out(attended(layer.attention, layer.norms[2](y), None, True).flatten(1))
        y = y + layer.cross.out(attended(layer.cross, layer.norms[4](y), source).flatten(1))
        expected[start, end] = y + layer.feedforward(layer.norms[3](y))
    compare(through(network, layer, x, source=Source(packed(), seen)), expected)
    assert network.cache(10) is None


def test_transparent_attention() -> None:
    """z_m = Σ_n softmax(w)_nm h_n: with one-hot weights, layer m of the decoder attends to one layer of the encoder."""
    plain = mirrored(ENCODER, NoPosition())
    model = TransparentEncoderDecoder(encoder=plain.encoder, decoder=plain.decoder)
    network = cast("Any", built(cast("Any", model)))
    every = network.encoder(Batch({"tokens": packed()}, {}), layers=True)
    h = [*every.layers[:-1], every["tokens"]]
    s = network.mixture.softmax(0)
    x = network.decoder.embed(packed())
    for m, layer in enumerate(network.decoder.layers):
        z = sum(s[n, m] * h[n] for n in range(3))
        rows = []
        for start, end in spans():
            y = x[start:end]
            y = layer.attention_norm(y + layer.attention.out(attended(layer.attention, y, None, True).flatten(1)))
            seen = attended(layer.cross, y, z[start:end]).flatten(1)
            y = layer.cross_norm(y + layer.cross.out(seen))
            rows.append(layer.feedforward_norm(y + layer.feedforward(y)))
        x = x.clone()
        for (start, end), one in zip(spans(), rows, strict=True):
            x[start:end] = one
    found = network(Batch({"tokens": packed(), "source": packed()}, {}))["tokens"]
    compare(found, {(start, end): x[start:end] for start, end in spans()})

"""Synthesizers, relative position vectors and convolutions against their papers' equations written out slowly."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from genus.model.attention.convolution import DynamicConvolution, LightweightConvolution
from genus.model.attention.masks import AttentionMask, Banded, Causal, Full
from genus.model.attention.plan import Context
from genus.model.attention.shaw import ShawAttention
from genus.model.attention.synthesizer import DenseSynthesizer, FactorizedSynthesizer, RandomSynthesizer, Synthesizer
from genus.model.position.bias import Alibi, RelativeBuckets
from genus.model.position.rotary import Rotary
from model.written_layers import DOUBLE, ENCODER, HIDDEN, compare, packed, spans, states

if TYPE_CHECKING:
    from genus.model.attention import Attention

HEADS, SIZE, LENGTH = 3, 4, 12
MIXED = ["alone", "plus", "alpha"]


def built(choice: Attention) -> Any:
    """Return the layer in float64 with every parameter drawn."""
    torch.manual_seed(0)
    layer = cast("Any", choice.build(HIDDEN)).double().eval()
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(0.5 * torch.randn_like(weight))
    return layer


def by_head(x: Tensor) -> Tensor:
    return torch.unflatten(x, -1, (HEADS, SIZE))


def seen(i: int, length: int, causal: bool) -> int:
    return i + 1 if causal else length


@pytest.mark.parametrize("rule", [Full(), Causal()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("mixed", MIXED)
@pytest.mark.parametrize("kind", [DenseSynthesizer, RandomSynthesizer, FactorizedSynthesizer], ids=lambda k: k.__name__)
def test_synthesizers(kind: Any, mixed: str, rule: AttentionMask) -> None:
    """S alone, S + q k / sqrt(D), or (1 - alpha) q k / sqrt(D) + alpha S, with S by position of the document."""
    layer = built(kind(heads=HEADS, length=LENGTH, mixed=mixed, mask=rule, dropout=0.0))
    x, expected = states(), {}
    for start, end in spans():
        y, length = x[start:end], end - start
        v, out = by_head(layer.value(y)), torch.zeros(end - start, HEADS, SIZE, dtype=torch.float64)
        for i in range(length):
            for a in range(HEADS):
                keys = seen(i, length, rule.causal)
                if kind is DenseSynthesizer:
                    made = layer.synthesis.weight @ F.relu(by_head(layer.query(y[i]))[a])
                elif kind is RandomSynthesizer:
                    made = layer.matrix.view(HEADS, LENGTH, LENGTH)[a, i]
                else:
                    one, two = (m.view(HEADS, LENGTH, -1)[a] for m in (layer.rows, layer.columns))
                    made = torch.stack([one[i] @ two[j] for j in range(LENGTH)])
                scores = made[:keys]
                if mixed != "alone":
                    q, k = by_head(layer.query(y[i]))[a], by_head(layer.key(y))[:keys, a]
                    dots = k @ q / SIZE**0.5
                    share = layer.alpha.sigmoid() if mixed == "alpha" else None
                    scores = dots + scores if share is None else (1 - share) * dots + share * scores
                out[i, a] = scores.softmax(0) @ v[:keys, a]
        expected[start, end] = layer.out(out.flatten(1))
    compare(layer(x, layer.plan(Context(packed()))), expected)


@pytest.mark.parametrize("rule", [Full(), Causal()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("longest", [2, 20])
def test_relative_position_vectors(rule: AttentionMask, longest: int) -> None:
    """Shaw et al. 2018, equations 3 and 4, pair by pair."""
    choice = ShawAttention(heads=HEADS, longest=longest, mask=rule, dropout=0.0)
    layer, x, expected = built(choice), states(), {}
    assert len(layer.key_distance) == (longest + 1 if rule.causal else 2 * longest + 1)
    for start, end in spans():
        y, length = x[start:end], end - start
        q, k, v = (by_head(project(y)) for project in (layer.query, layer.key, layer.value))
        out = torch.zeros(length, HEADS, SIZE, dtype=torch.float64)
        for i in range(length):
            place = [max(-longest, min(longest, j - i)) + longest for j in range(seen(i, length, rule.causal))]
            for a in range(HEADS):
                scores = torch.stack([q[i, a] @ (k[j, a] + layer.key_distance[d]) for j, d in enumerate(place)])
                weights = (scores / SIZE**0.5).softmax(0)
                out[i, a] = sum(w * (v[j, a] + layer.value_distance[place[j]]) for j, w in enumerate(weights))
        expected[start, end] = layer.out(out.flatten(1))
    compare(layer(x, layer.plan(Context(packed()))), expected)


def test_position_biases_are_added_to_the_scores() -> None:
    """As T5's to synthetic scores; rotary positions are refused."""
    choice = RandomSynthesizer(heads=HEADS, length=LENGTH, dropout=0.0)
    layer, x = built(choice), states()
    bias = Alibi().bias(HEADS, HIDDEN)
    found = layer(x, layer.plan(Context(packed(), bias=bias)))
    away = (torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)).abs()
    with torch.no_grad():
        layer.matrix.view(HEADS, LENGTH, LENGTH).sub_(bias.slopes(x.device)[:, None, None] * away)  # type: ignore[operator]
    again = layer(x, layer.plan(Context(packed())))
    compare(found, {(start, end): again[start:end] for start, end in spans()})
    turned = replace(ENCODER.embedding, position=Rotary())
    with pytest.raises(ValueError, match="RandomSynthesizer does not take Rotary"):
        replace(ENCODER, attention=choice, embedding=turned)
    replace(ENCODER, attention=choice, embedding=replace(turned, position=RelativeBuckets()))


@pytest.mark.parametrize("rule", [Full(), Causal()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("width", [3, 7, 15])
@pytest.mark.parametrize("kind", [LightweightConvolution, DynamicConvolution], ids=lambda kind: kind.__name__)
def test_convolutions(kind: Any, width: int, rule: AttentionMask) -> None:
    """PyTorch's convolution of each document alone; a dynamic one token by token, with the token's own kernel."""
    choice = kind(heads=HEADS, widths=(width,), mask=rule, dropout=0.0)
    layer, x, expected = built(choice), states(), {}
    before = width - 1 if rule.causal else width // 2
    for start, end in spans():
        y = x[start:end]
        gated = layer.value(y) * layer.gate(y).sigmoid()
        outside = F.pad(gated, (0, 0, before, width - 1 - before))
        if kind is LightweightConvolution:
            kernel = layer.weight.softmax(-1).repeat_interleave(SIZE, 0)[:, None]
            mixed = F.conv1d(outside.T, kernel, groups=HIDDEN).T
        else:
            own = layer.kernels(gated).view(-1, HEADS, width).softmax(-1).repeat_interleave(SIZE, 1)
            mixed = torch.stack([(outside[i : i + width] * own[i].T).sum(0) for i in range(len(y))])
        expected[start, end] = layer.out(mixed)
    compare(layer(x, layer.plan(Context(packed()))), expected)


def test_widths_by_layer() -> None:
    """3, 7 and then 15, as many as there are layers."""
    attention = LightweightConvolution(heads=HEADS, widths=(3, 7, 15))
    network = cast("Any", replace(ENCODER, layers=5, attention=attention).build(40))
    assert [layer.attention.weight.shape[1] for layer in network.layers] == [3, 7, 15, 15, 15]


def test_dropout_of_kernels_is_drawn_in_training_alone() -> None:
    layer, x = built(LightweightConvolution(heads=HEADS, widths=(3,), dropout=0.5)), states()
    still, moved = (layer.plan(Context(packed(), training=training)) for training in (False, True))
    assert torch.equal(layer(x, still), layer(x, still))
    assert not torch.allclose(layer(x, moved), layer(x, still), rtol=DOUBLE)


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        (
            lambda: LightweightConvolution(heads=3, mask=Banded(width=4)),
            r"a convolution reads its neighbors, .*not Banded",
        ),
        (lambda: DynamicConvolution(heads=3, widths=(4,)), "expected odd numbers"),
        (lambda: replace(ENCODER, attention=DynamicConvolution(heads=5)), "5 heads do not divide a hidden size of 12"),
        (lambda: replace(ENCODER, cross=RandomSynthesizer(heads=3)), "cannot attend to another stream"),
        (lambda: replace(ENCODER, cross=LightweightConvolution(heads=3)), "cannot attend to another stream"),
        (lambda: replace(ENCODER, attention=ShawAttention(heads=5, longest=2)), "5 attention heads do not divide"),
    ],
    ids=range(6),
)
def test_what_is_not_defined_is_refused_in_one_line(choice: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        choice()
    assert "\n" not in str(caught.value)


def test_a_synthesizer_reads_no_longer_text_than_it_has_scores_for() -> None:
    model = replace(ENCODER, attention=cast("Synthesizer", RandomSynthesizer(heads=3, length=17)))
    assert model.max_length == 17

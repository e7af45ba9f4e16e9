"""Universal and Funnel-Transformer against their papers' equations written out slowly, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from genus.batch import Batch, Packed
from genus.compress.units import units_of
from genus.errors import UsageError
from genus.model.attention.plan import Context
from genus.model.block.branched import Branched
from genus.model.block.evolved import Evolved
from genus.model.block.fixup import Fixup
from genus.model.block.parallel import Parallel
from genus.model.block.rezero import ReZero
from genus.model.encoder_decoder import EncoderDecoder
from genus.model.feedforward.alternating import AlternatingFeedForward
from genus.model.feedforward.experts import MixtureOfExperts, Switch
from genus.model.feedforward.mlp import MLP
from genus.model.position.bias import RelativeBuckets
from genus.model.stack.funnel import Funnel, Pooled
from genus.model.stack.reversible import ReversibleStack
from genus.model.stack.sharing import CrossLayerSharing
from genus.model.stack.universal import AdaptiveUniversal, Universal
from model.written_layers import (
    DECODER,
    DOUBLE,
    ENCODER,
    HIDDEN,
    attended,
    built,
    compare,
    one_step,
    packed,
    spans,
    states,
)


def coordinate(position: int, step: int) -> Tensor:
    """Return the coordinates of Dehghani et al. 2018, equations 4 and 5, sines first."""
    rate = [10000 ** (-2 * j / HIDDEN) for j in range(HIDDEN // 2)]
    sines = [np.sin(position * r) + np.sin(step * r) for r in rate]
    return torch.tensor(sines + [np.cos(position * r) + np.cos(step * r) for r in rate], dtype=torch.float64)


def test_universal() -> None:
    network = built(replace(ENCODER, layers=3, stack=Universal()))
    x, expected = states(), {}
    for start, end in spans():
        y = x[start:end]
        for step in range(1, 4):
            placed = torch.stack([coordinate(position, step) for position in range(1, len(y) + 1)])
            y = one_step(network.layers[0], y + placed)
        expected[start, end] = y
    compare(network.layers(x, Context(packed())), expected)
    kept: list[Tensor] = []
    network.layers(x, Context(packed()), kept)
    assert len(kept) == 4


def test_adaptive_halting() -> None:
    """Graves 2016, token by token: the steps, the remainder, the weighted state, and the ponder cost."""
    network = built(replace(ENCODER, layers=5, stack=AdaptiveUniversal(epsilon=0.1, ponder=0.3)))
    stack, x, expected, cost, taken = network.layers, states(), {}, 0.0, set[int]()
    for start, end in spans():
        y, out = x[start:end], torch.zeros(end - start, HIDDEN, dtype=torch.float64)
        sums, steps, left, done = [0.0] * len(y), [0] * len(y), [0.0] * len(y), [False] * len(y)
        for step in range(1, 6):
            y = y + torch.stack([coordinate(position, step) for position in range(1, len(y) + 1)])
            chances = (y @ stack.halting[0] + stack.halting_bias).sigmoid().tolist()
            y = one_step(stack[0], y)
            for i, p in enumerate(chances):
                if done[i]:
                    continue
                steps[i] += 1
                share = p
                if sums[i] + p > 0.9:
                    share = left[i] = 1 - sums[i]
                    done[i] = True
                sums[i] += share
                out[i] = share * y[i] + (1 - share) * out[i]
        expected[start, end] = out
        cost += 0.3 * (sum(steps) + sum(left))
        taken |= set(steps)
    context = Context(packed())
    compare(stack(x, context), expected)
    assert len(taken) > 1
    assert context.losses["ponder"].item() == pytest.approx(cost)


def test_funnel() -> None:
    """Means of two neighbors of a document after attention; the last layers have each token's state again."""
    network = built(replace(ENCODER, layers=5, stack=Funnel(blocks=(1, 2, 1), decoder=1)))
    layers, x, expected = network.layers, states(), {}

    def halved(y: Tensor) -> Tensor:
        return torch.stack([y[i : i + 2].mean(0) for i in range(0, len(y), 2)])

    def pooling(layer: Any, y: Tensor) -> Tensor:
        y = halved(layer.attention_norm(y + layer.attention.out(attended(layer.attention, y).flatten(1))))
        return layer.feedforward_norm(y + layer.feedforward(y))  # type: ignore[no-any-return]

    for start, end in spans():
        first = one_step(layers[0], x[start:end])
        short = pooling(layers[3], one_step(layers[2], pooling(layers[1], first)))
        whole = torch.stack([short[i // 4] for i in range(end - start)])
        expected[start, end] = one_step(layers[4], first + whole)
    compare(layers(x, Context(packed())), expected)


def test_pooled_documents_keep_their_borders() -> None:
    """Of 5, 6; 9; 3, 1 and 7 tokens: 3, 3; 5; 2, 1 and 4, each in its entry, in rows that end with padding."""
    pooled = Pooled.of(packed(), 2)
    assert pooled.packed.lengths() == [3, 3, 5, 2, 1, 4]
    assert pooled.packed.row_length == 8
    assert len(pooled.packed.offsets) == len(packed().offsets)
    assert pooled.packed.offsets[-1] == 24
    for (start, end), (first, last) in zip(packed().spans(), pooled.packed.spans(), strict=True):
        assert pooled.packed.positions[first:last].tolist() == list(range(last - first))
        assert pooled.place[start:end].tolist() == [first + i // 2 for i in range(end - start)]


def test_the_encoder_of_an_encoder_decoder_stays_short() -> None:
    """The decoder attends to the pooled states of its own source; so a document is the same alone."""
    encoder = replace(ENCODER, stack=Funnel(blocks=(1, 1), decoder=0))
    model = EncoderDecoder(encoder=encoder, decoder=replace(DECODER, cross=ENCODER.attention))
    network = cast("Any", built(cast("Any", model)))
    whole = network(Batch({"tokens": packed(), "source": packed()}, {}))
    assert whole.streams.keys() == {"tokens"}
    for start, end in spans():
        one = Packed.laid(packed().ids[start:end], [[end - start]], end - start)
        alone = network(Batch({"tokens": one, "source": one}, {}))["tokens"]
        torch.testing.assert_close(whole["tokens"][start:end], alone, rtol=DOUBLE, atol=DOUBLE)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"block": Fixup()}, "Fixup does without normalization, and model.norm is LayerNorm"),
        ({"stack": Funnel(blocks=(1, 2))}, "are not the model's 2 layers"),
        ({"stack": Funnel(blocks=(1, 1), decoder=0), "attention": DECODER.attention}, "pooled tokens know of later"),
        ({"stack": Funnel(blocks=(1, 1), decoder=0), "block": Parallel()}, "a layer of Parallel pools nothing"),
        ({"stack": ReversibleStack(), "block": ReZero(), "feedforward": Switch(expert=MLP(size=4), experts=2)},
         "reversible layers compute their experts twice"),
        ({"stack": CrossLayerSharing(), "feedforward": AlternatingFeedForward(feedforwards=(MLP(size=4), MLP(size=5)))},
         "layers that share weights are alike"),
        ({"block": Branched(), "feedforward": Switch(expert=MLP(size=4), experts=2)}, "branches choose no experts"),
        ({"block": Evolved(), "attention": DECODER.attention,
          "embedding": replace(ENCODER.embedding, position=RelativeBuckets())}, "twice as many heads"),
        ({"stack": Universal(), "hidden": 9}, "a hidden size of 9 is odd"),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        replace(ENCODER, **changes)
    assert "\n" not in str(caught.value)


def test_short_states_are_no_model_of_tokens() -> None:
    from genus import catalog

    with pytest.raises(UsageError, match="read a state of each token, of which this model has fewer"):
        catalog.load("bert/mini", ['model.stack={kind="Funnel",blocks=[2,2],decoder=0}'])
    with pytest.raises(ValueError, match="3 are chosen, and there are 2"):
        MixtureOfExperts(expert=MLP(size=4), experts=2, chosen=3)
    with pytest.raises(UsageError, match="needs the states of each, and Funnel keeps none"):
        catalog.load("t5/mini", ['model.encoder.stack={kind="Funnel",blocks=[2,2],decoder=0}',
                                 "model.kind=TransparentEncoderDecoder"])  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{"block": Branched()}, {"block": Evolved(), "attention": DECODER.attention}], ids=str
)
def test_heads_that_others_depend_on_are_not_pruned(changes: dict[str, Any]) -> None:
    network = replace(ENCODER, **changes).build(40)
    with pytest.raises(UsageError, match=r"--heads: layers\.0\..*attention cannot be pruned") as caught:
        units_of(network, "heads")
    assert "\n" not in str(caught.value)

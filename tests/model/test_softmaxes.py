"""Output layers: the mixture of softmaxes by its equations, the adaptive softmax beside PyTorch's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import nn

from genus import catalog
from genus.batch import IGNORE, Targets
from genus.errors import UsageError
from genus.model.embedding.adaptive import AdaptiveEmbedding
from genus.model.encoder_decoder import mirrored
from genus.model.head import chunked_loss
from genus.model.head.adaptive_softmax import AdaptiveSoftmax, UntiedAdaptiveSoftmax, zipf
from genus.model.head.mixture_of_softmaxes import MixtureOfSoftmaxes
from genus.model.norm import Identity
from genus.model.position import NoPosition
from model.written_layers import DOUBLE, ENCODER, HIDDEN

VOCABULARY = 50
SINGLE = 1e-5
"""Of float64 states: log-probabilities are made in float32 at least."""


def made(output: Any, model: Any = ENCODER) -> Any:
    torch.manual_seed(0)
    layer = output.build(model, VOCABULARY).double()
    layer.tie(cast("Any", model.build(VOCABULARY)).double().token_embedding)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(torch.randn_like(weight))
    return layer


def targets() -> tuple[torch.Tensor, Targets]:
    torch.manual_seed(1)
    label = torch.randint(0, VOCABULARY, (30,))
    label[[3, 17]] = IGNORE
    return torch.randn(30, HIDDEN, dtype=torch.float64), Targets(torch.arange(30), label)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("chunk", [2**24, 7 * 3 * VOCABULARY])
def test_mixture_of_softmaxes(tied: bool, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """log Σ_k softmax(U h)_k softmax(W tanh(V_k h))_label, target by target, whole and in chunks."""
    monkeypatch.setattr(chunked_loss, "CHUNK", chunk)
    layer = made(MixtureOfSoftmaxes(softmaxes=3, tied=tied, scaled=True))
    states, given = targets()
    states.requires_grad_()
    loss, right = torch.zeros((), dtype=torch.float64), 0
    for h, label in zip(states, given.label.tolist(), strict=True):
        if label == IGNORE:
            continue
        prior = (layer.prior.weight @ h).softmax(0)
        latent = layer.latent.weight.view(3, HIDDEN, HIDDEN)
        chances = sum(prior[k] * (layer.weight @ (latent[k] @ h).tanh() / HIDDEN**0.5).softmax(0) for k in range(3))
        loss = loss - cast("torch.Tensor", chances)[label].log()
        right += int(cast("torch.Tensor", chances).argmax()) == label
    found = layer.loss(states, given, sample=True)
    torch.testing.assert_close(found["loss"], loss, rtol=DOUBLE, atol=DOUBLE)
    assert found["correct"] == right
    assert found["sampled"].shape == (30,)
    expected, own = (torch.autograd.grad(one, states, retain_graph=True)[0] for one in (loss, found["loss"]))
    torch.testing.assert_close(own, expected, rtol=DOUBLE, atol=DOUBLE)
    torch.testing.assert_close(layer(states).exp().sum(1), torch.ones(30, dtype=torch.float64))


@pytest.mark.parametrize("ratio", [1, 2])
def test_the_adaptive_softmax_is_pytorchs(ratio: int) -> None:
    layer = made(UntiedAdaptiveSoftmax(cutoffs=(10, 30), ratio=ratio))
    theirs = nn.AdaptiveLogSoftmaxWithLoss(HIDDEN, VOCABULARY, [10, 30], div_value=ratio).double()
    with torch.no_grad():
        theirs.head.weight.copy_(layer.first.weight)
        for place, (inner, outer) in enumerate(cast("Any", theirs.tail)):
            inner.weight.copy_(layer.maps[place].weight if ratio > 1 else torch.eye(HIDDEN))
            outer.weight.copy_(layer.tables[place].weight)
    states, given = targets()
    torch.testing.assert_close(layer(states), theirs.log_prob(states), rtol=SINGLE, atol=SINGLE)
    real = given.label != IGNORE
    expected = -theirs(states[real], given.label[real]).output.sum()
    torch.testing.assert_close(layer.loss(states, given)["loss"], expected, rtol=SINGLE, atol=SINGLE)


@pytest.mark.parametrize("ratio", [1, 2])
def test_its_parameters_and_work_are_counted(ratio: int) -> None:
    choice = UntiedAdaptiveSoftmax(cutoffs=(10, 30), ratio=ratio)
    layer, cost = choice.build(ENCODER, VOCABULARY), choice.cost(ENCODER, VOCABULARY)
    assert cost.parameters == sum(weight.numel() for weight in layer.parameters())
    narrow, least = HIDDEN // ratio, HIDDEN // ratio**2
    maps = ratio > 1
    work = 12.0 * HIDDEN
    work += zipf(10, 30, VOCABULARY) * (narrow * 20 + maps * HIDDEN * narrow)
    work += zipf(30, 50, VOCABULARY) * (least * 20 + maps * HIDDEN * least)
    assert cost.flops == pytest.approx(2 * work)


@pytest.mark.parametrize("ratio", [1, 2])
def test_an_encoder_decoder_shares_adaptive_embeddings_and_their_softmax(ratio: int) -> None:
    embedding = AdaptiveEmbedding(
        segments=0, position=NoPosition(), norm=Identity(), dropout=0.0, cutoffs=(10, 30), ratio=ratio
    )
    model = mirrored(replace(ENCODER, embedding=embedding), NoPosition())
    network = cast("Any", model.build(VOCABULARY))
    assert model.parameters(VOCABULARY) == sum(weight.numel() for weight in network.parameters())
    layer = AdaptiveSoftmax().build(model, VOCABULARY)
    layer.tie(network.token_embedding)
    states = torch.randn(4, HIDDEN)
    torch.testing.assert_close(layer(states).exp().sum(1), torch.ones(4))


def test_tables_of_clusters_are_no_matrix_of_a_mixture() -> None:
    settings = [
        'model.embedding={kind="AdaptiveEmbedding",cutoffs=[100]}',
        "model.hidden=32",
        "model.attention.heads=2",
    ]
    recipe = catalog.load("bert/tiny", [*settings, 'model.embedding.ratio=2',
                                        'objectives.0.output={kind="MixtureOfSoftmaxes",softmaxes=2}'])  # fmt: skip
    with pytest.raises(UsageError, match=r"which a mixture of softmaxes cannot share.*tied=false"):
        recipe.learner()

"""AdamW against slow transcriptions, and its parameter groups against BERT's rule."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.feedforward.mlp import MLP
from genus.model.pooler import Pooler
from genus.model.transformer import Transformer
from genus.objectives import Learner
from genus.objectives.pretraining.labels import SequenceLabels
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.optim.adamw import AdamW

FLOAT32 = 2e-6
"""Twenty float32 updates of numbers near 1 against float64."""
FACTORS = np.linspace(0.1, 1.0, 20)


def transcribed(x: np.ndarray, gradients: list[np.ndarray], choice: AdamW) -> np.ndarray:
    """Algorithm 2 of Loshchilov and Hutter; without correction, AdamWeightDecayOptimizer of BERT's optimization.py."""
    (b1, b2), m, v = choice.betas, np.zeros_like(x), np.zeros_like(x)
    for t, (gradient, factor) in enumerate(zip(gradients, FACTORS, strict=True), start=1):
        m = b1 * m + (1 - b1) * gradient
        v = b2 * v + (1 - b2) * gradient**2
        fixed_m, fixed_v = (m / (1 - b1**t), v / (1 - b2**t)) if choice.bias_correction else (m, v)
        update = fixed_m / (np.sqrt(fixed_v) + choice.eps) + choice.weight_decay * x
        x = x - factor * choice.lr * update
    return x


@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize("eps", [1e-8, 1e-2])
def test_equals_a_slow_transcription(bias_correction: bool, eps: float) -> None:
    choice = AdamW(lr=0.01, betas=(0.9, 0.98), eps=eps, weight_decay=0.1, bias_correction=bias_correction)
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(3, 4)), list(rng.normal(size=(len(FACTORS), 3, 4)))
    layer = nn.Linear(4, 3, bias=False)
    layer.weight.data = torch.tensor(start, dtype=torch.float32)
    run(layer, choice, gradients, FACTORS)
    np.testing.assert_allclose(layer.weight.detach().numpy(), transcribed(start, gradients, choice), atol=FLOAT32)


def test_the_wanted_rates_stand_after_an_uncorrected_update() -> None:
    layer = nn.Linear(4, 3, bias=False)
    optimizer = run(layer, AdamW(lr=0.01, eps=1e-6, bias_correction=False), [np.ones((3, 4))], np.ones(1))
    group = optimizer.param_groups[0]
    assert (group["lr"], group["eps"], group["weight_decay"]) == (0.01, 1e-6, 0.01)


def test_a_resumed_uncorrected_optimizer_goes_on() -> None:
    """The number of updates, which the rescaling needs, travels with the optimizer's state."""
    choice = AdamW(lr=0.01, bias_correction=False)
    gradients = list(np.random.default_rng(0).normal(size=(6, 3, 4)))
    whole, halves = nn.Linear(4, 3, bias=False), nn.Linear(4, 3, bias=False)
    halves.load_state_dict(whole.state_dict())
    run(whole, choice, gradients, np.ones(6))
    state = run(halves, choice, gradients[:3], np.ones(3)).state_dict()
    run(halves, choice, gradients[3:], np.ones(3), state)
    assert torch.equal(whole.weight, halves.weight)


def run(layer: nn.Linear, choice: AdamW, gradients: list, factors: np.ndarray, state: dict | None = None):
    """Make an update with each gradient, as the training loop does."""
    optimizer = choice.build(layer)
    if state is not None:
        optimizer.load_state_dict(state)
    for gradient, factor in zip(gradients, factors, strict=True):
        layer.weight.grad = torch.tensor(gradient, dtype=torch.float32)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        optimizer.step()
    return optimizer


def test_what_decays_is_what_decays_in_the_released_code() -> None:
    """optimization.py: exclude_from_weight_decay=["LayerNorm", "layer_norm", "bias"]; our norms are named `norm`."""
    model = Transformer(
        layers=2, hidden=8, attention=MultiHeadAttention(heads=2), feedforward=MLP(size=16), pooler=Pooler()
    )
    objectives = (MaskedLM(), SequenceLabels(label="next_sentence"))
    heads = {objective.name: objective.build(model, 50) for objective in objectives}
    learner = Learner(model.build(50), heads)
    decaying, others = AdamW(lr=1.0, weight_decay=0.01).build(learner).param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.01, 0.0)
    names = {id(parameter): name for name, parameter in learner.named_parameters()}
    found = {names[id(parameter)] for parameter in decaying["params"]}
    assert found == {name for name in names.values() if not re.search("norm|bias", name.replace("next_sentence", ""))}
    assert {"network.embed.tokens.weight", "network.embed.positions.table.weight"} <= found
    assert len(decaying["params"]) + len(others["params"]) == len(names)


def test_frozen_parameters_are_left_out() -> None:
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    groups = AdamW(lr=1.0).build(layer).param_groups
    assert [len(group["params"]) for group in groups] == [1]

"""Rates that fall with depth, against a transcription of ELECTRA's released code (optimization.py, _get_layer_lrs)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from genus import catalog
from genus.model.transformer import Transformer
from genus.objectives.supervised.sequence import SequenceClassification
from genus.optim.adamw import AdamW
from genus.train.run import Run
from genus.train.step import TrainStep
from genus.train.world import init_distributed

if TYPE_CHECKING:
    from genus.objectives import Learner

LAYERS, DECAY, PEAK = 3, 0.8, 1e-3
ROUNDING = 1e-12
"""Relative: powers in float64 taken in another order."""


def published(name: str) -> float:
    """Return the rate of a parameter by its name, as the released code finds it."""
    depths = {"network.embed.": 0, "network.pooler.": LAYERS + 2, "heads.": LAYERS + 2}
    depths |= {f"network.layers.{layer}.": layer + 1 for layer in range(LAYERS)}
    (depth,) = [depth for key, depth in depths.items() if name.startswith(key)]
    return PEAK * DECAY ** (LAYERS + 2 - depth)


def learner() -> Learner:
    changes = ["model.layers=3", "model.hidden=8", "model.attention.heads=2", "model.feedforward.size=8"]
    recipe = catalog.load("bert/tiny", [*changes, "tokens.vocab_size=30"])
    assert isinstance(recipe.model, Transformer)
    return replace(recipe, objectives=(SequenceClassification(labels=("a", "b")),)).learner()


@pytest.mark.parametrize("bias_correction", [True, False])
def test_every_parameter_learns_at_its_published_rate(bias_correction: bool) -> None:
    it = learner()
    choice = AdamW(lr=PEAK, layer_decay=DECAY, weight_decay=0.1, bias_correction=bias_correction)
    groups = TrainStep(it, choice, Run(device="cpu"), init_distributed(Run(device="cpu")), 0).optimizer.param_groups
    found = {id(weight): group for group in groups for weight in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(list(it.parameters()))
    for name, weight in it.named_parameters():
        group = found[id(weight)]
        assert group["base_lr"] == pytest.approx(published(name), rel=ROUNDING), name
        assert group["weight_decay"] == (0.1 if weight.ndim > 1 else 0.0)


def test_without_decay_there_is_one_rate() -> None:
    train_step = TrainStep(learner(), AdamW(lr=PEAK), Run(device="cpu"), init_distributed(Run(device="cpu")), 0)
    assert [group["base_lr"] for group in train_step.optimizer.param_groups] == [PEAK, PEAK]


def test_the_first_update_of_adam_is_as_large_as_the_rate() -> None:
    it = learner()
    choice = AdamW(lr=PEAK, layer_decay=DECAY, weight_decay=0.0)
    train_step = TrainStep(it, choice, Run(device="cpu"), init_distributed(Run(device="cpu")), 0)
    before = {name: weight.detach().clone() for name, weight in it.named_parameters()}
    for weight in it.parameters():
        weight.grad = torch.ones_like(weight)
    train_step.optimizer.step()
    for name, weight in it.named_parameters():
        moved = (before[name] - weight.detach()).mean().item()
        assert moved == pytest.approx(published(name), rel=1e-3), name  # eps, and float32 weights near 1


def test_decay_of_all_parameters_is_one_for_biases_and_norms_too() -> None:
    it = learner()
    for decayed, of_vectors in (("matrices", 0.0), ("all", 0.1)):
        groups = AdamW(lr=PEAK, weight_decay=0.1, decayed=decayed).build(it).param_groups
        decays = {id(weight): group["weight_decay"] for group in groups for weight in group["params"]}
        for name, weight in it.named_parameters():
            assert decays[id(weight)] == (0.1 if weight.ndim > 1 else of_vectors), name

"""ELECTRA's rows: parameters of both models against Hugging Face's classes, and what the authors report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from genus import catalog
from genus.batch import Batch, Targets
from genus.cost import component_cost
from genus.export.layouts import layout_for
from genus.model.skeleton import skeleton
from hand import equal_rows

if TYPE_CHECKING:
    from genus.objectives import Objective
    from genus.recipe import Recipe

transformers = pytest.importorskip("transformers")

NAMES = [name for name in catalog.names() if name.startswith("electra/")]
FLOPS = 0.02
"""Targets are a rounded share of the tokens."""
ROUNDED = 0.04
"""Authors round to millions, and count heads or not."""


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def official(recipe: Recipe, heads: list[str]) -> int:
    found = layout_for(recipe, heads)
    assert found is not None
    (architecture,) = found[1]["architectures"]
    settings = transformers.AutoConfig.for_model(**found[1], vocab_size=recipe.tokens.vocab_size)
    with skeleton():
        return parameters(getattr(transformers, architecture)(settings))


def generated(recipe: Recipe) -> Any:
    objective: Objective = recipe.objectives[0]
    return objective


@pytest.mark.parametrize("name", NAMES)
def test_parameters_equal_hugging_faces(name: str) -> None:
    """Of the discriminator, of the generator, and of both together, in which the embeddings are one."""
    recipe = catalog.load(name)
    with skeleton():
        learner = recipe.learner()
    encoder = generated(recipe).generator.encoder(recipe.model)
    generator = replace(recipe, model=encoder, objectives=(generated(recipe).masked,))
    companion = learner.auxiliary_models()["generator"].learner
    assert parameters(learner.network) == official(recipe, [])
    assert parameters(learner.network) + parameters(learner.heads["replaced_token_detection"]) == official(
        recipe, ["replaced_token_detection"]
    )
    assert parameters(companion) == official(generator, ["masked_lm"])
    embed = learner.network.embed
    shared = sum(parameters(part) for part in (embed.tokens, embed.segments, embed.positions, embed.norm))
    both = official(recipe, ["replaced_token_detection"]) + official(generator, ["masked_lm"])
    assert parameters(learner) == both - shared


@pytest.mark.parametrize("name", ["electra/small", "electra/base", "electra/large"])
def test_flops_of_both_models_are_what_pytorch_counts(name: str) -> None:
    """Of a forward pass; the token head of the generator works at the chosen tokens only."""
    recipe = catalog.load(name, ["tokens.vocab_size=1000", "model.layers=2"])
    rows, length = 2, 128
    cells = rows * length
    ids = torch.randint(5, 1000, (cells,))
    chosen = torch.randperm(cells)[: round(generated(recipe).masked.masking.rate * cells)]
    packed = equal_rows(ids.view(rows, length))
    targets = {"masked_lm": Targets(chosen, ids[chosen]), "original": Targets(torch.arange(cells), ids)}
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        recipe.learner().eval()(Batch({"tokens": packed}, targets))
    assert component_cost(recipe, {"tokens": length}).flops == pytest.approx(
        counted.get_total_flops() / cells, rel=FLOPS
    )


@pytest.mark.parametrize("name", ["electra/small", "electra/base", "electra/large"])
def test_parameters_are_about_what_the_authors_report(name: str) -> None:
    recipe = catalog.load(name)
    with skeleton():
        learner = recipe.learner()
    assert recipe.published.parameters is not None
    assert abs(parameters(learner.network) / recipe.published.parameters - 1) < ROUNDED


@pytest.mark.parametrize(
    ("name", "rate", "batch", "length", "steps", "decay"),
    [
        ("electra/small", 5e-4, 128, 128, 1_000_000, 0.8),
        ("electra/base", 2e-4, 256, 512, 766_000, 0.8),
        ("electra/large", 2e-4, 2048, 512, 400_000, 0.9),
        ("electra/large-1750k", 2e-4, 2048, 512, 1_750_000, 0.9),
    ],
)
def test_training_is_the_paper_s(name: str, rate: float, batch: int, length: int, steps: int, decay: float) -> None:
    """Table 6 and table 7 of the appendix; warm-up is 10,000 steps everywhere."""
    recipe = catalog.load(name)
    (stage,) = recipe.stages
    assert (recipe.optimizer.lr, stage.batch, stage.max_length, recipe.budget.amount) == (rate, batch, length, steps)
    assert recipe.schedule.to_json()["warmup"] * steps == pytest.approx(10_000, rel=1e-4)
    assert recipe.finetuning.optimizer.layer_decay == decay
    assert generated(recipe).masked.masking.rate == (0.25 if "large" in name else 0.15)
    assert recipe.objectives[1].weights() == {"replaced_token_detection": 50.0}


def test_the_bare_name_is_the_small_row() -> None:
    assert catalog.load("electra").name == "electra/small"


@pytest.mark.parametrize("size", ["mini", "tiny"])
def test_our_sizes_cost_what_bert_s_cost(size: str) -> None:
    ours, bert = catalog.load(f"electra/{size}"), catalog.load(f"bert/{size}")
    assert (ours.stages, ours.budget) == (bert.stages, bert.budget)
    assert ours.optimizer == bert.optimizer

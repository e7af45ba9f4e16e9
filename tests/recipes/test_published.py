"""The rows: their parameters equal Hugging Face's to the last one, and what the authors report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from genus import catalog
from genus.export.layouts import layout_for
from genus.model.pooler import Pooler
from genus.model.skeleton import skeleton
from genus.model.transformer import Transformer

if TYPE_CHECKING:
    import torch

    from genus.recipe import Recipe

transformers = pytest.importorskip("transformers")

NAMES = [name for name in catalog.names() if name.split("/")[0] in {"bert", "roberta"}]
PUBLISHED = ["bert/base", "bert/large", "bert/medium", "bert/small", "bert/mini", "bert/tiny", "bert/base-cased"]
PUBLISHED += ["bert/large-wwm", "bert/large-cased", "roberta/base", "roberta/large"]
ROUNDED = 0.03
"""Authors round to millions, and count heads or not."""
CLASSES = {"bert": ("BertModel", "BertForPreTraining"), "roberta": ("RobertaModel", "RobertaForMaskedLM")}


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def official(recipe: Recipe, architecture: str) -> int:
    _, config = layout_for(recipe, [objective.name for objective in recipe.objectives])
    settings = transformers.AutoConfig.for_model(**config, vocab_size=recipe.tokens.vocab_size)
    with skeleton():
        return parameters(getattr(transformers, architecture)(settings))


@pytest.mark.parametrize("name", NAMES)
def test_parameters_equal_hugging_faces(name: str) -> None:
    recipe = catalog.load(name)
    encoder, pretraining = CLASSES[name.split("/")[0]]
    with skeleton():
        learner = recipe.learner()
        pooled = recipe.override("model.pooler", Pooler().to_json()).model.build(recipe.tokens.vocab_size)
    assert parameters(pooled) == official(recipe, encoder)
    assert parameters(learner) == official(recipe, pretraining)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("bert/base", 109_482_240),
        ("bert/large", 335_141_888),
        ("bert/base-cased", 108_310_272),
        ("bert/base-chinese", 102_267_648),
        ("bert/base-multilingual-cased", 177_853_440),
        ("roberta/base", 124_645_632),
        ("roberta/large", 355_359_744),
    ],
)
def test_known_counts_of_the_encoders_with_pooler(name: str, count: int) -> None:
    recipe = catalog.load(name).override("model.pooler", Pooler().to_json())
    with skeleton():
        assert parameters(recipe.model.build(recipe.tokens.vocab_size)) == count


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_about_what_the_authors_report(name: str) -> None:
    recipe = catalog.load(name)
    with skeleton():
        count = parameters(recipe.learner())
    assert recipe.published.parameters is not None
    assert abs(count / recipe.published.parameters - 1) < ROUNDED


def test_the_bare_name_is_the_base_row() -> None:
    assert catalog.load("bert").name == "bert/base"
    assert catalog.load("roberta").name == "roberta/base"


@pytest.mark.parametrize("name", NAMES)
def test_heads_are_64_wide_and_the_inner_layer_is_four_times_the_hidden_size(name: str) -> None:
    model = catalog.load(name).model
    assert isinstance(model, Transformer)
    choices = model.to_json()
    assert model.hidden == 64 * choices["attention"]["heads"]
    assert choices["feedforward"]["size"] == 4 * model.hidden


@pytest.mark.parametrize(
    ("name", "warmup"), [("bert/base", 10_000), ("roberta/base", 24_000), ("roberta/large", 30_000)]
)
def test_warmup_is_the_published_number_of_steps(name: str, warmup: int) -> None:
    recipe = catalog.load(name)
    assert recipe.schedule.to_json()["warmup"] * recipe.budget.amount == pytest.approx(warmup)


@pytest.mark.parametrize("name", ["bert/mini", "roberta/mini"])
def test_a_mini_row_trains_on_a_laptop(name: str) -> None:
    """4 million tokens at length 128: 8 minutes on two CPU cores, which take 4,500 a second each for `bert/mini`."""
    recipe = catalog.load(name)
    (stage,) = recipe.stages
    assert recipe.budget.unit == "steps"
    assert stage.max_length == 128
    assert recipe.budget.amount * stage.batch * stage.max_length <= 4_200_000

"""Which Hugging Face layout a recipe fits, by its architecture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import oracle
import pytest
from folders import SIZE, tiny

from genus import catalog
from genus.errors import GenusError, UsageError
from genus.export.folder import load, save
from genus.export.layouts import layout_for, layouts
from genus.model.activation import Relu
from genus.model.head.lm_head import LMHead, Transform
from genus.model.norm import LayerNorm
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.objectives.supervised.choice import MultipleChoice
from genus.objectives.supervised.sequence import SequenceClassification, SequenceRegression
from genus.objectives.supervised.span_extraction import SpanExtraction
from genus.objectives.supervised.token import TokenClassification
from small import documents, of_texts, shrunk

if TYPE_CHECKING:
    from pathlib import Path


def test_layouts_are_found_by_scanning() -> None:
    assert {"bert", "roberta"} <= {layout.model_type for layout in layouts()}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("bert/tiny", {"embedding": {"position": {"offset": 2}}}),
        ("bert/tiny", {"embedding": {"segments": 0}}),
        ("bert/tiny", {"embedding": {"dropout": 0.3}}),
        ("bert/tiny", {"norm": {"eps": 1e-6}}),
        ("bert/tiny", {"attention": {"bias": False}}),
        ("bert/tiny", {"pooler": None}),
        ("roberta/tiny", {"embedding": {"position": {"offset": 0}}, "feedforward": {"activation": "Relu"}}),
    ],
)
def test_an_architecture_that_no_class_has_fits_no_layout(name: str, changes: dict[str, Any]) -> None:
    recipe = catalog.load(name).overlay({"model": changes})
    assert layout_for(recipe, [objective.name for objective in recipe.objectives]) is None


def test_a_causal_network_fits_no_layout_of_bert() -> None:
    """Not even without a head: it is no `BertModel`."""
    causal = {"model": {"attention": {"mask": {"kind": "Causal"}}}, "objectives": [{"kind": "CausalLM"}]}
    recipe = catalog.load("bert/tiny")
    assert layout_for(recipe, []) is not None
    recipe = recipe.overlay(causal)
    assert layout_for(recipe, []) is None
    assert layout_for(recipe, ["causal_lm"]) is None


@pytest.mark.parametrize("transform", [Transform(activation=Relu()), Transform(norm=LayerNorm(eps=1e-3))])
def test_a_head_that_no_class_has_fits_no_layout(transform: Transform) -> None:
    masked = MaskedLM(output=LMHead(transform=transform))
    for name in ("bert/tiny", "roberta/tiny"):
        assert layout_for(replace(catalog.load(name), objectives=(masked,)), ["masked_lm"]) is None


def test_the_choice_follows_the_architecture_not_the_name() -> None:
    fitting = layout_for(replace(catalog.load("roberta/tiny"), name="bert/tiny"), ["masked_lm"])
    assert fitting is not None
    assert fitting[0].model_type == "roberta"


def test_a_tokenizer_of_another_size_is_refused(tmp_path: Path) -> None:
    recipe, learner, _ = tiny("bert", tmp_path)
    with pytest.raises(GenusError, match="the tokenizer has 41 pieces, the model 40"):
        save(tmp_path / "model", recipe, learner, oracle.tokenizer(tmp_path / "other", "bert", 41))
    assert not (tmp_path / "model").exists()


def test_a_padding_id_that_moves_roberta_s_positions_is_refused(tmp_path: Path) -> None:
    recipe, learner, _ = tiny("roberta", tmp_path)
    other = oracle.tokenizer(tmp_path / "other", "bert", SIZE["roberta"])
    with pytest.raises(GenusError, match="roberta counts positions from the padding id 1, not 0"):
        save(tmp_path / "model", recipe, learner, other)


TUNED = (
    SequenceClassification(labels=("a", "b")),
    SequenceRegression(),
    TokenClassification(labels=("a", "b")),
    SpanExtraction(null_threshold=0.5),
    MultipleChoice(),
)


TINY = [name for name in catalog.names() if name.endswith("/tiny") and of_texts(catalog.load(name))]


@pytest.mark.parametrize("name", TINY)
def test_no_head_of_a_task_is_lost(name: str, tmp_path: Path) -> None:
    """Where no class of Hugging Face has it, genus alone reads the folder; with a source, no tags or spans."""
    recipe = shrunk(catalog.load(name))
    tokenizer = recipe.tokens.train(documents())
    stages, pooler = tuple(stage.whole() for stage in recipe.stages), recipe.finetuning.pooler
    model = recipe.model if pooler is None else recipe.model.pooled(pooler)
    recipe = replace(recipe, tokens=tokenizer.tokens)
    for objective in TUNED:
        if "source" in model.streams and not objective.pooled:
            with pytest.raises(UsageError, match=r"an encoder-decoder tells no (tags of words|spans of a text)"):
                objective.continued(recipe.objectives, model)
            continue
        going_on = objective.continued(recipe.objectives, model)
        tuned = replace(recipe, model=model, objectives=(going_on,), stages=stages)
        save(tmp_path / objective.name, tuned, tuned.learner(), tokenizer)
        found = load(tmp_path / objective.name)
        assert [one.name for one in found.recipe.objectives] == [objective.name]
        assert found.learner.heads.keys() == {objective.name}

"""Hugging Face's random readers of answers, read and written back: logits, loss, gradients, weights; and ours there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import torch
from folders import edit, rewrite
from oracle import FLOAT32, LENGTHS, OF_STEMS, PLACES, OfStem, reading, transformers

from genus import catalog
from genus.batch import Targets
from genus.errors import GenusError
from genus.export.folder import load, save
from genus.export.layouts import layouts
from genus.export.native import is_native
from genus.export.verify import verify
from genus.files import read_json
from genus.objectives.supervised.span_extraction import SpanExtraction
from small import documents, shrunk

if TYPE_CHECKING:
    from pathlib import Path

OWN_LAYERS = ("BigBird",)
"""Architectures whose class has more than one linear layer."""
SHAPES = [shape for shape in OF_STEMS if shape.stem not in OWN_LAYERS]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.stem)
DECODERS = ("gpt2", "llama", "reformer")
"""Members whose class is asked below of models of ours: decoders, and Reformer, where padding changes texts."""
SPAN = "span_extraction"
STILL = ("key.bias", "k_lin.bias", "qa_outputs.bias", "1.output.LayerNorm.bias", "1.output_layer_norm.bias")
STILL += ("1.albert_layers.0.full_layer_layer_norm.bias", "1.ff.layer_norm.bias", "encoder.ln.bias")
"""Parameters without a gradient: what is added to all tokens' logits alike, as by the last norm, changes no softmax."""


def architecture(stem: str) -> str:
    return f"{stem}ForQuestionAnswering{'Simple' if stem == 'XLNet' else ''}"


def reader(shape: OfStem) -> Any:
    return oracle.build(shape, architecture(shape.stem))


def test_every_architecture_with_such_a_class_is_here() -> None:
    known = {
        layout.model_type: name for layout in layouts() for name in layout.architectures.values() if "Answ" in name
    }
    assert all(hasattr(transformers, name) for name in known.values())
    assert {architecture(shape.stem) for shape in SHAPES} == {known.pop(kind) for kind in known.keys() - {*DECODERS}}
    assert known.keys() == {*DECODERS}


@shapes
def test_logits_loss_and_gradients(tmp_path: Path, shape: OfStem) -> None:
    """The loss is theirs where every token is a candidate: theirs compares padding too, so each is asked by itself."""
    model = reader(shape)
    found = reading(tmp_path, model, shape)
    assert found.recipe.objectives == (SpanExtraction(dropout=found.recipe.objectives[0].dropout),)
    model, learner = model.double(), found.learner.double().eval()
    batch = oracle.packed(shape)
    every = Targets(torch.arange(len(batch.tokens.ids)), torch.full((len(batch.tokens.ids),), -100))
    with torch.no_grad():
        states = learner.network(batch)
        ours = learner.heads[SPAN].outputs(learner.network, states, replace(batch, targets={SPAN: every}))
        theirs = model(**shape.inputs())
    assert ours.keys() == {"start_logits", "end_logits"}
    for name, logits in ours.items():
        assert oracle.relative(oracle.in_order(logits), oracle.live(theirs[name])) <= FLOAT32

    rng = np.random.default_rng(4)
    spans = [sorted(rng.integers(0, length, 2).tolist()) for length in LENGTHS]
    inputs, losses = shape.inputs(), []
    for row, (length, (start, end)) in enumerate(zip(LENGTHS, spans, strict=True)):
        one = {name: value[row : row + 1, :length] for name, value in inputs.items()}
        losses.append(model(**one, start_positions=torch.tensor([start]), end_positions=torch.tensor([end])).loss)
    expected = torch.stack(losses).mean()
    expected.backward()
    index = torch.full((len(LENGTHS), max(LENGTHS)), -1)
    for row, length in enumerate(LENGTHS):
        index[row, :length] = torch.arange(length) + PLACES[row]
    batch = replace(batch, targets={SPAN: Targets(index, torch.tensor(spans))})
    loss = learner.objective(learner(batch).sums, learner.counts(batch))
    loss.backward()
    assert oracle.relative(loss.detach(), expected.detach()) <= FLOAT32
    oracle.same_gradients(found, model, still=STILL)


@shapes
def test_there_and_back_is_the_identity(tmp_path: Path, shape: OfStem) -> None:
    model = reader(shape)
    found = reading(tmp_path / "theirs", model, shape)
    if shape.stem == "Camembert":  # it is written as RoBERTa
        camembert, model = model, reader(replace(shape, stem="Roberta"))
        model.load_state_dict(camembert.state_dict())
        model.save_pretrained(tmp_path / "renamed")
    oracle.there_and_back(tmp_path / "ours", found, model, free={"classifier_dropout"})
    differences = verify(tmp_path / "ours", found.learner)
    assert differences.keys() >= {"hidden", *(f"transformers/{SPAN}/{one}_logits" for one in ("start", "end"))}
    assert max(differences.values()) <= FLOAT32
    assert "pipeline_tag: question-answering" in (tmp_path / "ours" / "README.md").read_text()


@pytest.mark.parametrize("member", [*DECODERS, "bigbird"])
def test_ours_in_their_classes_and_back(tmp_path: Path, member: str) -> None:
    """Of BigBird, whose class has layers of its own, the folder is ours alone."""
    recipe = shrunk(catalog.load(f"{member}/tiny"))
    tokenizer, objective = recipe.tokens.train(documents()), SpanExtraction()
    model, stages = objective.reads(recipe.model, None), tuple(stage.whole() for stage in recipe.stages)
    recipe = replace(recipe, tokens=tokenizer.tokens, model=model, objectives=(objective,), stages=stages)
    learner = recipe.learner()
    torch.manual_seed(0)
    for parameter in learner.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save(tmp_path / "ours", recipe, learner, tokenizer)
    assert max(verify(tmp_path / "ours", learner).values()) <= FLOAT32
    config = read_json(tmp_path / "ours" / "config.json")
    assert is_native(config) == (member == "bigbird")
    if is_native(config):
        return
    (name,) = config["architectures"]
    theirs, problems = getattr(transformers, name).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(problems.values()), problems
    tokenizer.save(tmp_path / "theirs")
    theirs.save_pretrained(tmp_path / "theirs")
    again = load(tmp_path / "theirs")
    assert (again.recipe.model, again.recipe.objectives) == (recipe.model, (objective,))
    expected = learner.state_dict()
    assert again.learner.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.learner.state_dict().items())


def test_a_folder_of_ours_keeps_windows_and_threshold(tmp_path: Path) -> None:
    found = reading(tmp_path / "theirs", reader(SHAPES[0]), SHAPES[0])
    own = SpanExtraction(stride=20, question_length=9, answer_length=5, null_threshold=-1.25)
    save(tmp_path / "ours", replace(found.recipe, objectives=(own,)), found.learner, found.tokenizer)
    assert load(tmp_path / "ours").recipe.objectives == (own,)


def test_a_pooler_in_an_old_file_is_left_out(tmp_path: Path) -> None:
    shape = SHAPES[0]
    expected = reading(tmp_path, reader(shape), shape)
    pooler = {"bert.pooler.dense.weight": torch.ones(24, 24), "bert.pooler.dense.bias": torch.ones(24)}
    rewrite(tmp_path, lambda tensors: tensors | pooler)
    assert load(tmp_path).recipe == expected.recipe


def test_a_laboratory_s_own_class_is_told_by_the_end_of_its_name(tmp_path: Path) -> None:
    expected = reading(tmp_path, reader(SHAPES[0]), SHAPES[0])
    edit(tmp_path / "config.json", architectures=["OurBertForQuestionAnswering"])
    assert load(tmp_path).recipe == expected.recipe


@pytest.mark.parametrize(("stem", "named"), [("XLNet", "XLNetForQuestionAnswering"), ("Bert", "BertForMultipleChoice")])
def test_a_class_with_another_head_is_refused(tmp_path: Path, stem: str, named: str) -> None:
    (shape,) = [shape for shape in SHAPES if shape.stem == stem]
    reading(tmp_path, reader(shape), shape)
    edit(tmp_path / "config.json", architectures=[named])
    with pytest.raises(GenusError, match=rf"{named} cannot be read; known are .*{architecture(stem)}"):
        load(tmp_path)

"""Hugging Face's random taggers of words, read and written back: logits, loss, gradients, weights, labels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import torch
from folders import edit, rewrite, tiny
from oracle import FLOAT32, LENGTHS, OF_STEMS, OfStem, reading, transformers

from genus import catalog
from genus.errors import GenusError
from genus.export.folder import load, save
from genus.export.layouts import layout_for, layouts
from genus.export.native import is_native
from genus.export.verify import verify
from genus.files import read_json
from genus.model.pooler import Pooler
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.objectives.supervised.token import TokenClassification
from genus.tasks.dataset import LabeledRow
from genus.tasks.words import encode_words
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.bytes import Bytes
from small import shrunk

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tokens import TokenizerConfig

NAMES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


SHAPES = OF_STEMS
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.stem)


def tagger(shape: OfStem) -> Any:
    labels = {"id2label": dict(enumerate(NAMES)), "label2id": {name: n for n, name in enumerate(NAMES)}}
    return oracle.build(shape, f"{shape.stem}ForTokenClassification", **labels)


def tags() -> tuple[list[dict[str, Any]], torch.Tensor]:
    """Return a tag at every other token, and the same as Hugging Face takes them."""
    rng = np.random.default_rng(3)
    given, labels = [], torch.full((len(LENGTHS), max(LENGTHS)), -100)
    for row, length in enumerate(LENGTHS):
        index = np.arange(0, length, 2)
        label = rng.integers(0, len(NAMES), len(index))
        labels[row, index] = torch.from_numpy(label)
        given.append({"token_classification": (index, label)})
    return given, labels


def test_every_architecture_with_such_a_class_is_here() -> None:
    decoders = {"gpt2", "llama"}  # of which test_decoders.py tells
    encoders = [layout for layout in layouts() if layout.model_type not in decoders]
    theirs = {name for layout in encoders for name in layout.architectures.values() if "Token" in name}
    assert all(hasattr(transformers, name) for name in theirs)
    assert {f"{shape.stem}ForTokenClassification" for shape in SHAPES} == theirs


@shapes
def test_logits_loss_and_gradients(tmp_path: Path, shape: OfStem) -> None:
    """In float64, but for what they compute in float32 whatever the precision: losses of ours, distances of XLNet's."""
    model = tagger(shape)
    found = reading(tmp_path, model, shape)
    assert found.recipe.objectives == (TokenClassification(labels=NAMES, dropout=found.recipe.objectives[0].dropout),)
    model, learner = model.double(), found.learner.double().eval()
    given, labels = tags()
    expected = model(**shape.inputs(), labels=labels)
    expected.loss.backward()
    batch = oracle.packed(shape, given)
    head = learner.heads["token_classification"]
    logits = head.outputs(learner.network, learner.network(batch), batch)["logits"]
    there = batch.targets["token_classification"].index
    every = torch.zeros(len(batch.tokens.ids), len(NAMES), dtype=logits.dtype).index_copy(0, there, logits.detach())
    kept = oracle.live(labels) != -100
    assert oracle.relative(oracle.in_order(every)[kept], oracle.live(expected.logits)[kept]) <= FLOAT32
    loss = learner.objective(learner(batch).sums, learner.counts(batch))
    loss.backward()
    assert oracle.relative(loss.detach(), expected.loss.detach()) <= FLOAT32
    oracle.same_gradients(found, model, still="k_lin.bias" if shape.stem == "DistilBert" else "key.bias")


@shapes
def test_there_and_back_is_the_identity(tmp_path: Path, shape: OfStem) -> None:
    model = tagger(shape)
    found = reading(tmp_path / "theirs", model, shape)
    if shape.stem == "Camembert":  # it is written as RoBERTa
        camembert, model = model, tagger(replace(shape, stem="Roberta"))
        model.load_state_dict(camembert.state_dict())
        model.save_pretrained(tmp_path / "renamed")
    unused = {name for name in model.state_dict() if ".pooler." in name}  # BigBird's has one, which it does not call
    free = {"classifier_dropout", "random_focus", "random_seed"}
    oracle.there_and_back(tmp_path / "ours", found, model, free=free, unused=unused)
    config = read_json(tmp_path / "ours" / "config.json")
    assert config["id2label"] == {str(number): name for number, name in enumerate(NAMES)}
    differences = verify(tmp_path / "ours", found.learner)
    assert differences.keys() >= {"hidden", "token_classification", "transformers/token_classification"}
    assert max(differences.values()) <= FLOAT32
    assert "pipeline_tag: token-classification" in (tmp_path / "ours" / "README.md").read_text()


def test_a_pooler_in_an_old_file_is_left_out(tmp_path: Path) -> None:
    """Before transformers 4, taggers were saved with a pooler, which nothing read."""
    shape = SHAPES[0]
    expected = reading(tmp_path, tagger(shape), shape)
    pooler = {"bert.pooler.dense.weight": torch.ones(24, 24), "bert.pooler.dense.bias": torch.ones(24)}
    rewrite(tmp_path, lambda tensors: tensors | pooler)
    found = load(tmp_path)
    assert found.recipe == expected.recipe
    assert found.learner.state_dict().keys() == expected.learner.state_dict().keys()


@pytest.mark.parametrize("stem", ["Bert", "Roberta"])
@pytest.mark.parametrize(("kind", "head"), [("Token", "token_classification"), ("Sequence", "sequence_classification")])
def test_without_the_name_of_a_class_words_are_what_has_no_pooler(
    tmp_path: Path, stem: str, kind: str, head: str
) -> None:
    (shape,) = [shape for shape in SHAPES if shape.stem == stem]
    reading(tmp_path, oracle.build(shape, f"{stem}For{kind}Classification"), shape)
    edit(tmp_path / "config.json", architectures=None)
    assert list(load(tmp_path).learner.heads) == [head]


def test_a_folder_of_ours_keeps_dropout_and_the_usual_tag(tmp_path: Path) -> None:
    tag = TokenClassification(labels=("NN", "VB"), usual="NN", dropout=0.3)
    recipe, _, tokenizer = tiny("bert", tmp_path, tag)
    recipe = replace(recipe, model=recipe.model.unpooled())
    save(tmp_path / "model", recipe, recipe.learner(), tokenizer)
    assert read_json(tmp_path / "model" / "config.json")["classifier_dropout"] == 0.3
    assert load(tmp_path / "model").recipe.objectives == (tag,)


def test_a_tagger_with_a_pooler_fits_no_class(tmp_path: Path) -> None:
    recipe, _, _ = tiny("bert", tmp_path, TokenClassification(labels=("NN", "VB")))
    assert recipe.model.pooler == Pooler()
    assert layout_for(recipe, ["token_classification"]) is None


def test_a_reformer_s_tags_are_for_us_to_read(tmp_path: Path) -> None:
    """There is no such class."""
    recipe = shrunk(catalog.load("reformer/tiny"))
    tokenizer = recipe.tokens.train(["every word of a text"] * 9)
    recipe = replace(
        recipe, tokens=tokenizer.tokens, objectives=(TokenClassification(labels=NAMES),), model=recipe.model.unpooled()
    )
    learner = recipe.learner()
    save(tmp_path / "model", recipe, learner, tokenizer)
    assert is_native(read_json(tmp_path / "model" / "config.json"))
    assert max(verify(tmp_path / "model", learner).values()) == 0


def test_the_name_of_a_class_that_there_is_not(tmp_path: Path) -> None:
    shape = SHAPES[0]
    reading(tmp_path, tagger(shape), shape)
    edit(tmp_path / "config.json", architectures=["BertForMultipleChoice"])
    with pytest.raises(GenusError, match=r"BertForMultipleChoice cannot be read; known are .*TokenClassification"):
        load(tmp_path)


@pytest.mark.parametrize(("member", "tokens"), [("roberta", ByteBPE(vocab_size=290)), ("bert", Bytes())])
def test_words_get_the_same_ids_from_transformers(tmp_path: Path, member: str, tokens: TokenizerConfig) -> None:
    """A tagger of bytes reads every word with the space before it; other models of the same tokenizer do not."""
    words = ["Blackburn", "'s", "call", "cost", "1,000.50"]
    tokenizer = tokens.train(["Blackburn calls , at a cost of 1,000.50 or so"] * 9)
    recipe = shrunk(catalog.load(f"{member}/tiny"))
    recipe = replace(recipe, tokens=tokenizer.tokens, model=recipe.model.unpooled(), objectives=(MaskedLM(),))
    tagger = replace(recipe, objectives=(TokenClassification(labels=NAMES),))
    save(tmp_path / "tagger", tagger, tagger.learner(), tokenizer)
    given = transformers.AutoTokenizer.from_pretrained(tmp_path / "tagger")(words, is_split_into_words=True)
    again = load(tmp_path / "tagger").tokenizer
    for one in (tokenizer, again):
        rows = [LabeledRow(1, tuple(words), None)]
        encoded = encode_words(one, rows, np.zeros(len(words), np.int64), "token_classification", 64)
        assert encoded.example(0).tokens.ids.tolist() == given["input_ids"]

    save(tmp_path / "model", recipe, recipe.learner(), tokenizer)
    given = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")(words[0], add_special_tokens=False)
    assert given["input_ids"] == tokenizer.encode(words[:1])[0]

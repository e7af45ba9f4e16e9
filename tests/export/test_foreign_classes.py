"""Classes that nobody here knows are read by their `model_type` and their tensors, as transformers reads them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import oracle
import pytest
import torch
import transformers
from folders import edit, rewrite, same_weights, tiny

from genus.errors import GenusError
from genus.export.folder import load, save
from genus.export.layouts import layout_of, layouts
from genus.export.verify import verify
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.objectives.supervised.sequence import SequenceClassification, SequenceRegression

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Objective

LABELS = ("bad", "so-so", "good")


def foreign(tmp_path: Path, member: str, objectives: tuple[Any, ...], architecture: str | None, **more: Any) -> Path:
    """Write a folder without recipe, of another class's name."""
    save(tmp_path / "model", *tiny(member, tmp_path, *objectives))
    (tmp_path / "model" / "recipe.json").unlink()
    architectures = None if architecture is None else [architecture]
    edit(tmp_path / "model" / "config.json", architectures=architectures, **more)
    return tmp_path / "model"


@pytest.mark.parametrize("architectures", [["OurBert"], ["OurBert", "Another"], ["BertForOurTask"], [], None])
def test_a_laboratory_s_class_is_read_by_its_tensors(folder: Path, architectures: list[str] | None) -> None:
    edit(folder / "config.json", architectures=architectures)
    assert same_weights(folder)
    assert list(load(folder).learner.heads) == ["masked_lm", "next_sentence"]
    (folder / "recipe.json").unlink()
    again = load(folder)
    assert [objective.name for objective in again.recipe.objectives] == ["masked_lm", "next_sentence"]
    assert transformers.AutoModelForPreTraining.from_pretrained(folder).config.model_type == "bert"


def test_what_it_gives_is_what_transformers_gives(tmp_path: Path) -> None:
    """Written again it has the class of its architecture and heads."""
    folder = foreign(tmp_path, "bert", (MaskedLM(),), "OurBert")
    found = load(folder)
    save(tmp_path / "again", found.recipe, found.learner, found.tokenizer)
    assert json.loads((tmp_path / "again" / "config.json").read_text())["architectures"] == ["BertForMaskedLM"]
    assert {"transformers/hidden", "transformers/masked_lm"} <= verify(tmp_path / "again", found.learner).keys()


HEADS: list[tuple[str, Objective, str | None, dict[str, Any], str]] = [
    ("bert", SequenceClassification(labels=LABELS), "OurBert", {"problem_type": None}, "sequence_classification"),
    ("bert", SequenceClassification(labels=LABELS), "OurBert", {}, "sequence_classification"),
    ("bert", SequenceClassification(labels=LABELS), None, {"problem_type": None}, "sequence_classification"),
    ("bert", SequenceClassification(labels=("one",)), "OurBert", {}, "sequence_classification"),
    ("bert", SequenceRegression(), "OurBert", {"problem_type": None}, "sequence_regression"),
    ("bert", SequenceRegression(), "OurBert", {}, "sequence_regression"),
    ("bert", SequenceRegression(), "OurBertForSequenceClassification", {}, "sequence_regression"),
    (
        "bert",
        SequenceClassification(labels=LABELS),
        "OurBertForSequenceClassification",
        {"problem_type": None},
        "sequence_classification",
    ),
    ("roberta", SequenceClassification(labels=LABELS), "OurRoberta", {"problem_type": None}, "sequence_classification"),
    ("roberta", SequenceRegression(), "OurRoberta", {"problem_type": None}, "sequence_regression"),
]


@pytest.mark.parametrize(("member", "objective", "architecture", "changes", "head"), HEADS)
def test_which_head_a_linear_map_is_of(
    tmp_path: Path, member: str, objective: Objective, architecture: str | None, changes: dict[str, Any], head: str
) -> None:
    found = load(foreign(tmp_path, member, (objective,), architecture, **changes))
    assert list(found.learner.heads) == [head]


@pytest.mark.parametrize(
    "architecture", ["BertForTokenClassification", "OurBertForTokenClassification", "OurBert", None]
)
@pytest.mark.parametrize("pooler", [False, True])
def test_words_are_tagged_where_the_class_says_so_or_there_is_no_pooler(
    tmp_path: Path, architecture: str | None, pooler: bool
) -> None:
    """A class with a pooler that serves nothing, as in files of the first years, is told by its name alone."""
    model = oracle.build(oracle.BERT[0], "BertForTokenClassification", num_labels=3)
    model.save_pretrained(tmp_path)
    oracle.write_tokenizer(tmp_path, "bert", oracle.BERT[0].vocab)
    edit(tmp_path / "config.json", architectures=[architecture] if architecture else None)
    if pooler:
        extra = {"bert.pooler.dense.weight": torch.zeros(8, 8), "bert.pooler.dense.bias": torch.zeros(8)}
        rewrite(tmp_path, lambda tensors: tensors | extra)
    told = not pooler or (architecture or "").endswith("ForTokenClassification")
    assert list(load(tmp_path).learner.heads) == ["token_classification" if told else "sequence_classification"]


def test_a_class_of_fewer_heads_than_its_file_keeps_them(tmp_path: Path) -> None:
    """As the released `bert-base-uncased`, a `BertForMaskedLM` whose file holds the other head and the pooler too."""
    save(tmp_path / "model", *tiny("bert", tmp_path))
    edit(tmp_path / "model" / "config.json", architectures=["BertForMaskedLM"])
    assert list(load(tmp_path / "model").learner.heads) == ["masked_lm", "next_sentence"]


@pytest.mark.parametrize(
    "architecture",
    ["BertForMultipleChoice", "OurBertForMultipleChoice", "BertLMHeadModel", "BertForQuestionAnsweringSimple"],
)
def test_a_class_whose_head_is_another_is_refused(folder: Path, architecture: str) -> None:
    """The map of multiple choice looks like a regression's, and would be read as one."""
    edit(folder / "config.json", architectures=[architecture])
    with pytest.raises(GenusError, match=f"config.json: {architecture} cannot be read; known are BertForMaskedLM"):
        load(folder)


@pytest.mark.parametrize("architectures", ["BertModel", 3, {"a": 1}, [3], [["BertModel"]]])
def test_architectures_that_are_no_list_of_names_are_one_line(folder: Path, architectures: object) -> None:
    edit(folder / "config.json", architectures=architectures)
    with pytest.raises(GenusError, match=r"config\.json: architectures: expected a list of names, got"):
        load(folder)


def test_a_head_that_has_no_place_is_refused_by_its_tensors(folder: Path) -> None:
    edit(folder / "config.json", architectures=["OurBert"])
    rewrite(folder, lambda tensors: tensors | {"our_head.weight": torch.zeros(2, 16)})
    with pytest.raises(GenusError, match=r"the weights have no place for our_head\.weight"):
        load(folder)


def test_layouts_of_one_type_are_told_by_what_they_name() -> None:
    """At most one of them names nothing: it is what the others are not."""
    assert layout_of({"model_type": "big_bird", "attention_type": "original_full"}, []).variant
    assert not layout_of({"model_type": "big_bird"}, []).variant
    kinds = [layout.model_type for layout in layouts() if not layout.variant]
    assert len(kinds) == len(set(kinds))
    assert {layout.model_type for layout in layouts()} == set(kinds)

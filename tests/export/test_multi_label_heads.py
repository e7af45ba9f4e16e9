"""Multi-label classifiers of every class that has one: written, read and trained as transformers does."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import oracle
import pytest
import torch
import transformers
from folders import edit

from genus import catalog
from genus.export.folder import load, save
from genus.export.verify import verify
from genus.objectives.supervised.multi_label import MultiLabelClassification
from genus.tasks.encode import encode
from genus.tasks.feed import Shuffled
from genus.tasks.start import Start
from small import documents, shrunk

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "multi_label_classification"
LABELS = ("bad", "so-so", "good")
CUTS = (0.25, 0.1 + 0.2, 1e-7)
CLASSES = {
    "albert": "AlbertForSequenceClassification",
    "bart": "BartForSequenceClassification",
    "bert": "BertForSequenceClassification",
    "bigbird": "BigBirdForSequenceClassification",
    "distilbert": "DistilBertForSequenceClassification",
    "electra": "ElectraForSequenceClassification",
    "gpt2": "GPT2ForSequenceClassification",
    "llama": "LlamaForSequenceClassification",
    "megatron-bert": "MegatronBertForSequenceClassification",
    "roberta": "RobertaForSequenceClassification",
    "t5": "T5ForSequenceClassification",
    "wangchanberta": "RobertaForSequenceClassification",
    "xlnet": "XLNetForSequenceClassification",
}


@pytest.mark.parametrize("member", CLASSES)
def test_ours_is_theirs_and_comes_back(member: str, tmp_path: Path) -> None:
    row = shrunk(catalog.load(member))
    tokenizer = row.tokens.train(documents())
    row, settings = replace(row, tokens=tokenizer.tokens), replace(row.finetuning, task_tokens=None, dropout=0.0)
    if member in ("gpt2", "llama"):  # their classes have neither a pooler nor a bias
        settings = replace(settings, pooler=None, language_model=0.0)
    asked = MultiLabelClassification(
        labels=LABELS, thresholds=CUTS, dropout=0.0, bias=member not in ("gpt2", "llama")
    ).continued(row.objectives, row.model)
    start = Start(row, tokenizer)
    recipe = start.fine_tuned(asked, settings)
    learner = oracle.scramble(recipe.learner(), 0.1)
    folder = tmp_path / "model"
    save(folder, recipe, learner, start.reader(asked, settings))
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == [CLASSES[member]]
    assert config["problem_type"] == HEAD
    assert config["id2label"] == {"0": "bad", "1": "so-so", "2": "good"}
    assert verify(folder, learner)[f"transformers/{HEAD}"] <= oracle.FLOAT32

    (folder / "recipe.json").unlink()
    again = load(folder)
    (objective,) = again.recipe.objectives
    assert isinstance(objective, MultiLabelClassification)
    assert replace(objective, dropout=0.0) == asked  # in some classes it is that of the layers
    state = again.learner.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in learner.state_dict().items())


@pytest.mark.parametrize(
    ("shape", "architecture"),
    [(oracle.BERT[1], "BertForSequenceClassification"), (oracle.ROBERTA[2], "RobertaForSequenceClassification")],
)
@pytest.mark.parametrize("labels", [4, 1])
def test_theirs_is_ours_and_goes_back(tmp_path: Path, shape: oracle.Shape, architecture: str, labels: int) -> None:
    """One label, told or not, is no regression."""
    model = oracle.build(shape, architecture, num_labels=labels, problem_type=HEAD, classifier_dropout=0.1)
    found = oracle.reading(tmp_path / "theirs", model, shape)
    assert list(found.learner.heads) == [HEAD]
    assert found.recipe.objectives == (replace(found.recipe.objectives[0], thresholds=()),)
    with torch.no_grad():
        hidden = found.learner.eval().network(oracle.packed(shape))["tokens"]
        given = oracle.pooled(found.learner, hidden, HEAD)
        assert oracle.relative(given, model(**oracle.padded(shape)).logits) <= oracle.FLOAT32
    oracle.there_and_back(tmp_path / "ours", found, model, free={"multi_label_thresholds"})
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["problem_type"] == HEAD


def test_what_transformers_writes_again_keeps_the_thresholds(tmp_path: Path) -> None:
    model = oracle.build(oracle.BERT[0], "BertForSequenceClassification", num_labels=3, problem_type=HEAD)
    oracle.reading(tmp_path / "one", model, oracle.BERT[0])
    edit(tmp_path / "one" / "config.json", multi_label_thresholds=list(CUTS))
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "one")
    assert load(tmp_path / "one").recipe.objectives[0].tuned_thresholds == {
        label: cut for label, cut in zip(["LABEL_0", "LABEL_1", "LABEL_2"], CUTS, strict=True)
    }
    oracle.reading(tmp_path / "two", again, oracle.BERT[0])
    assert load(tmp_path / "two").recipe.objectives == load(tmp_path / "one").recipe.objectives


def test_loss_and_gradients_are_theirs_times_the_number_of_labels(tmp_path: Path) -> None:
    """Theirs is a mean over labels. The third text has no annotation: it is no target here, and left out there."""
    shape, labels = oracle.BERT[1], 4
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
    model = oracle.build(shape, "BertForSequenceClassification", num_labels=labels, problem_type=HEAD, **none)
    found = oracle.reading(tmp_path, model, shape)
    texts = ["p1 p2 p3", "p4", "p5 p6", "p7 p8 p9 p10"]
    truth = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [np.nan] * 4, [1, 1, 1, 1]], np.float32)
    data = encode(found.tokenizer, [(text,) for text in texts], truth, HEAD, 20)
    for few_shapes in (False, True):  # padding targets count for nothing
        batch = Shuffled(data, 4, seed=0, few_shapes=few_shapes)[0]
        counts = found.learner.counts(batch)
        assert counts[HEAD] == 3
        found.learner.zero_grad()
        loss = found.learner.objective(found.learner(batch).sums, counts)
        loss.backward()

        model.zero_grad()
        reader = transformers.AutoTokenizer.from_pretrained(tmp_path)
        known = [0, 1, 3]
        inputs = reader([texts[number] for number in known], padding=True, return_tensors="pt")
        expected = model(**inputs, labels=torch.from_numpy(truth[known])).loss * labels
        expected.backward()
        assert oracle.relative(loss, expected) <= oracle.FLOAT32
        oracle.same_gradients(found, model)

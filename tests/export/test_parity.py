"""Random Hugging Face models read by us, padded there and packed here: hidden states, logits, loss, gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import oracle
import pytest
import torch
from oracle import BERT, FLOAT32, ROBERTA, Shape, pooled, precisions, reading, token_logits

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("shape", BERT + ROBERTA, ids=str)
@precisions
def test_hidden_states_and_pooler(tmp_path: Path, shape: Shape, dtype: torch.dtype, tolerance: float) -> None:
    model = oracle.build(shape, {"bert": "BertModel", "roberta": "RobertaModel"}[shape.kind])
    learner = reading(tmp_path, model, shape).learner.to(dtype)
    oracle.same_states(learner, model.to(dtype), shape, tolerance)


@pytest.mark.parametrize("shape", BERT, ids=str)
def test_pretraining_logits(tmp_path: Path, shape: Shape) -> None:
    model = oracle.build(shape, "BertForPreTraining")
    learner = reading(tmp_path, model, shape).learner.eval()
    with torch.no_grad():
        expected = model(**oracle.padded(shape))
        hidden = learner.network(oracle.packed(shape))["tokens"]
        assert oracle.relative(token_logits(learner, hidden), oracle.live(expected.prediction_logits)) <= FLOAT32
        assert oracle.relative(pooled(learner, hidden, "next_sentence"), expected.seq_relationship_logits) <= FLOAT32


@pytest.mark.parametrize("shape", BERT + ROBERTA, ids=str)
@pytest.mark.parametrize("labels", [1, 3])
def test_sequence_classification_logits(tmp_path: Path, shape: Shape, labels: int) -> None:
    name = {"bert": "BertForSequenceClassification", "roberta": "RobertaForSequenceClassification"}[shape.kind]
    model = oracle.build(shape, name, num_labels=labels)
    oracle.same_classes(reading(tmp_path, model, shape).learner, model, shape)


@pytest.mark.parametrize("shape", BERT + ROBERTA, ids=str)
def test_loss_and_gradients(tmp_path: Path, shape: Shape) -> None:
    model = oracle.build(shape, {"bert": "BertForPreTraining", "roberta": "RobertaForMaskedLM"}[shape.kind])
    found = reading(tmp_path, model, shape)
    learner = found.learner.eval()
    named, labels = oracle.masked_targets(shape, "next_sentence")
    more = {"next_sentence_label": torch.arange(len(oracle.LENGTHS)) % 2} if shape.kind == "bert" else {}
    expected = model(**oracle.padded(shape), labels=labels, **more).loss
    expected.backward()
    batch = oracle.packed(shape, named)
    loss = learner.objective(learner(batch).sums, learner.counts(batch))
    loss.backward()
    assert oracle.relative(loss.detach(), expected.detach()) <= FLOAT32
    oracle.same_gradients(found, model)


ARCHITECTURES = [
    *((shape, name) for shape in BERT for name in ("BertModel", "BertForPreTraining", "BertForMaskedLM")),
    *((shape, name) for shape in BERT for name in ("BertForNextSentencePrediction", "BertForSequenceClassification")),
    *((shape, name) for shape in ROBERTA for name in ("RobertaModel", "RobertaForMaskedLM")),
    *((shape, "RobertaForSequenceClassification") for shape in ROBERTA),
]


@pytest.mark.parametrize(("shape", "architecture"), ARCHITECTURES, ids=str)
def test_there_and_back_is_the_identity(tmp_path: Path, shape: Shape, architecture: str) -> None:
    model = oracle.build(shape, architecture, **({"num_labels": 4} if "Sequence" in architecture else {}))
    found = reading(tmp_path / "theirs", model, shape)
    oracle.there_and_back(tmp_path / "ours", found, model, free={"classifier_dropout"})

"""Random Hugging Face models read by us, padded there and packed here: hidden states, logits, loss, gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import torch
from oracle import BERT, ROBERTA, Shape

from genus.export.hf import Imported, load, save
from genus.export.layouts import layout_for, theirs

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner

FLOAT32 = 1e-5
"""float32 has 24 bits, 6e-8; sums over tens of terms and a few layers in another order lose two digits."""
FLOAT64 = 1e-13
"""The same sums with 53 bits, 1e-16: a wrong formula cannot hide here."""


def reading(folder: Path, model: Any, shape: Shape) -> Imported:
    model.save_pretrained(folder)
    oracle.write_tokenizer(folder, shape.kind, shape.vocab)
    return load(folder)


def pooled(learner: Learner, hidden: torch.Tensor, head: str) -> torch.Tensor:
    return learner.heads[head].classes(learner.network.pool(oracle.first(hidden)))


def token_logits(learner: Learner, hidden: torch.Tensor) -> torch.Tensor:
    return learner.heads["masked"].tokens(oracle.in_order(hidden), learner.network.token_embedding.weight)


@pytest.mark.parametrize("shape", BERT + ROBERTA, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, FLOAT32), (torch.float64, FLOAT64)])
def test_hidden_states_and_pooler(tmp_path: Path, shape: Shape, dtype: torch.dtype, tolerance: float) -> None:
    model = oracle.build(shape, {"bert": "BertModel", "roberta": "RobertaModel"}[shape.kind])
    learner = reading(tmp_path, model, shape).learner.to(dtype).eval()
    with torch.no_grad():
        expected = model.to(dtype)(**oracle.padded(shape))
        hidden = learner.network(oracle.packed(shape))["tokens"]
        assert oracle.relative(oracle.in_order(hidden), oracle.live(expected.last_hidden_state)) <= tolerance
        assert oracle.relative(learner.network.pool(oracle.first(hidden)), expected.pooler_output) <= tolerance


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
    found = reading(tmp_path, model, shape)
    (head,) = found.learner.heads
    assert head == ("regress" if labels == 1 else "classify")
    with torch.no_grad():
        expected = model(**oracle.padded(shape)).logits
        hidden = found.learner.eval().network(oracle.packed(shape))["tokens"]
        assert oracle.relative(pooled(found.learner, hidden, head), expected) <= FLOAT32


def targets(shape: Shape) -> tuple[list[dict[str, Any]], torch.Tensor]:
    """Return two masked tokens and a next-sentence label a sequence, and the former as Hugging Face takes them."""
    rng = np.random.default_rng(2)
    named, labels = [], torch.full((len(oracle.LENGTHS), max(oracle.LENGTHS)), -100)
    for row, length in enumerate(oracle.LENGTHS):
        index = np.sort(rng.permutation(length)[:2])
        label = rng.integers(oracle.SPECIAL, shape.vocab - 1, 2)
        labels[row, index] = torch.from_numpy(label)
        named.append({"masked": (index, label), "next_sentence": (np.array([0]), np.array([row % 2]))})
    return named, labels


@pytest.mark.parametrize("shape", BERT + ROBERTA, ids=str)
def test_loss_and_gradients(tmp_path: Path, shape: Shape) -> None:
    """Every gradient, over the largest of its tensor; keys' biases, whose gradient is 0, over the largest of all."""
    model = oracle.build(shape, {"bert": "BertForPreTraining", "roberta": "RobertaForMaskedLM"}[shape.kind])
    found = reading(tmp_path, model, shape)
    learner = found.learner.eval()
    named, labels = targets(shape)
    more = {"next_sentence_label": torch.arange(len(oracle.LENGTHS)) % 2} if shape.kind == "bert" else {}
    expected = model(**oracle.padded(shape), labels=labels, **more).loss
    expected.backward()
    batch = oracle.packed(shape, named)
    loss = learner.objective(learner(batch), learner.counts(batch))
    loss.backward()
    assert oracle.relative(loss.detach(), expected.detach()) <= FLOAT32

    layout, _ = layout_for(found.recipe, learner.heads)
    table = layout.table(learner.heads)
    theirs_by_name = dict(model.named_parameters())
    compared = set()
    largest = max(float(p.grad.abs().max()) for p in theirs_by_name.values() if p.grad is not None)
    for name, gradient in oracle.gradients(learner).items():
        names = theirs(name, table)
        for foreign, part in zip(names, gradient.chunk(len(names)), strict=True):
            exact = theirs_by_name[foreign].grad
            scale = largest if foreign.endswith("key.bias") else float(exact.abs().max())
            assert float((part - exact).abs().max()) <= FLOAT32 * scale, foreign
            compared.add(foreign)
    assert {name for name, p in theirs_by_name.items() if p.grad is not None} == compared


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
    save(tmp_path / "ours", found.recipe, found.learner, found.tokenizer)
    again, problems = type(model).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(problems.values()), problems
    weights = again.state_dict()
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    before, after = model.config.to_dict(), again.config.to_dict()
    tokens = {"pad_token_id", "bos_token_id", "eos_token_id"}  # written from the tokenizer
    free = {"_name_or_path", "transformers_version", "problem_type", "classifier_dropout"} | tokens
    assert {k: v for k, v in before.items() if k not in free} == {k: v for k, v in after.items() if k not in free}
    third = load(tmp_path / "ours")
    assert third.recipe == found.recipe
    assert list(third.learner.heads) == list(found.learner.heads)

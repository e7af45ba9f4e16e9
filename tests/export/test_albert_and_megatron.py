"""Hugging Face's random ALBERTs and Megatron-BERTs, read and written back: states, logits, loss, gradients, weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import oracle
import pytest
import torch
from oracle import FLOAT32, Shape, pooled, precisions, reading, token_logits, transformers

from genus.errors import GenusError
from genus.export.layouts import layout_for
from genus.export.verify import verify
from genus.objectives.supervised.sequence import SequenceClassification

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Albert(Shape):
    """ALBERT with BERT's tokenizer, which is as good as any here."""

    embedding: int
    groups: int

    def config(self, **more: Any) -> Any:
        more |= {"embedding_size": self.embedding, "num_hidden_groups": self.groups}
        return transformers.AlbertConfig(**self.settings(), **more)


class Megatron(Shape):
    def config(self, **more: Any) -> Any:
        return transformers.MegatronBertConfig(**self.settings(), **more)


SHAPES = [
    Albert("bert", 1, 8, 1, 16, 30, 12, "gelu_new", 2, 1e-12, 4, 1),
    Albert("bert", 4, 24, 3, 40, 101, 40, "gelu", 2, 1e-12, 8, 2),
    Albert("bert", 5, 32, 4, 96, 64, 16, "relu", 3, 1e-6, 40, 3),
    Megatron("bert", 1, 8, 1, 16, 30, 12, "gelu", 2, 1e-12),
    Megatron("bert", 3, 24, 3, 40, 101, 40, "gelu_new", 2, 1e-5),
    Megatron("bert", 4, 32, 4, 96, 64, 16, "relu", 3, 1e-6),
]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{type(shape).__name__}-{shape.layers}")


def named(shape: Shape, kind: str) -> str:
    return ("Albert" if isinstance(shape, Albert) else "MegatronBert") + kind


@shapes
@precisions
def test_states_and_pooler(tmp_path: Path, shape: Shape, dtype: torch.dtype, tolerance: float) -> None:
    model = oracle.build(shape, named(shape, "Model"))
    learner = reading(tmp_path, model, shape).learner.to(dtype)
    oracle.same_states(learner, model.to(dtype), shape, tolerance)


@shapes
@pytest.mark.parametrize("labels", [1, 3])
def test_classification_logits(tmp_path: Path, shape: Shape, labels: int) -> None:
    model = oracle.build(shape, named(shape, "ForSequenceClassification"), num_labels=labels)
    oracle.same_classes(reading(tmp_path, model, shape).learner, model, shape)


@shapes
def test_pretraining_logits_loss_and_gradients(tmp_path: Path, shape: Shape) -> None:
    """In float64, but for losses, which take logits in float32: gradients through shared layers are sums of many."""
    model = oracle.build(shape, named(shape, "ForPreTraining"))
    found = reading(tmp_path, model, shape)
    model, learner = model.double(), found.learner.double().eval()
    given, labels = oracle.masked_targets(shape, "sentence_order")
    order = "sentence_order_label" if isinstance(shape, Albert) else "next_sentence_label"
    expected = model(**oracle.padded(shape), labels=labels, **{order: torch.arange(len(oracle.LENGTHS)) % 2})
    expected.loss.backward()
    batch = oracle.packed(shape, given)
    hidden = learner.network(batch)["tokens"]
    assert oracle.relative(token_logits(learner, hidden), oracle.live(expected.prediction_logits)) <= FLOAT32
    order_logits = expected.sop_logits if isinstance(shape, Albert) else expected.seq_relationship_logits
    assert oracle.relative(pooled(learner, hidden, "sentence_order"), order_logits) <= FLOAT32
    loss = learner.objective(learner(batch).sums, learner.counts(batch))
    loss.backward()
    assert oracle.relative(loss.detach(), expected.loss.detach()) <= FLOAT32
    oracle.same_gradients(found, model)


KINDS = ["Model", "ForPreTraining", "ForMaskedLM", "ForNextSentencePrediction", "ForSequenceClassification"]


@shapes
@pytest.mark.parametrize("kind", KINDS)
def test_from_there_to_here_and_back(tmp_path: Path, shape: Shape, kind: str) -> None:
    if not hasattr(transformers, named(shape, kind)):
        pytest.skip("ALBERT has no such class")
    model = oracle.build(shape, named(shape, kind), **({"num_labels": 4} if "Sequence" in kind else {}))
    found = reading(tmp_path / "theirs", model, shape)
    oracle.there_and_back(tmp_path / "ours", found, model)
    assert max(verify(tmp_path / "ours", found.learner).values()) <= FLOAT32


def test_several_layers_in_a_group_are_refused(tmp_path: Path) -> None:
    shape = SHAPES[0]
    model = oracle.build(shape, "AlbertModel", inner_group_num=2)
    with pytest.raises(GenusError, match="inner_group_num = 2 has no counterpart here"):
        reading(tmp_path, model, shape)


def test_a_classifier_s_own_dropout_does_not_stop_megatron_from_going_out(tmp_path: Path) -> None:
    shape = SHAPES[3]
    model = oracle.build(shape, "MegatronBertForSequenceClassification", num_labels=3, hidden_dropout_prob=0.0)
    recipe = reading(tmp_path, model, shape).recipe
    (classify,) = recipe.objectives
    assert isinstance(classify, SequenceClassification)
    assert classify.dropout == 0.1
    assert layout_for(recipe, ["sequence_classification"])[1]["hidden_dropout_prob"] == 0.0

"""Hugging Face's random ALBERTs and Megatron-BERTs, read and written back: states, logits, loss, gradients, weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import torch
from oracle import Shape, transformers

from genus.errors import GenusError
from genus.export.hf import Imported, load, save
from genus.export.layouts import layout_for, theirs
from genus.export.verify import verify
from genus.objectives.sequence import Classify

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner

FLOAT32 = 1e-5
"""float32 has 24 bits, 6e-8; sums over tens of terms and a few layers in another order lose two digits."""
FLOAT64 = 1e-13
"""The same sums with 53 bits, 1e-16: a wrong formula cannot hide here."""


@dataclass(frozen=True)
class Albert(Shape):
    """ALBERT with BERT's tokenizer, which is as good as any here."""

    embedding: int
    groups: int

    def config(self, **more: Any) -> Any:
        more |= {"embedding_size": self.embedding, "num_hidden_groups": self.groups}
        return transformers.AlbertConfig(**settings(self), **more)


class Megatron(Shape):
    def config(self, **more: Any) -> Any:
        return transformers.MegatronBertConfig(**settings(self), **more)


def settings(shape: Shape) -> dict[str, Any]:
    return {
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.inner,
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.positions,
        "hidden_act": shape.activation,
        "type_vocab_size": shape.segments,
        "layer_norm_eps": shape.eps,
    }


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


def reading(folder: Path, model: Any, shape: Shape) -> Imported:
    model.save_pretrained(folder)
    oracle.write_tokenizer(folder, "bert", shape.vocab)
    return load(folder)


def pooled(learner: Learner, hidden: torch.Tensor, head: str) -> torch.Tensor:
    return learner.heads[head].classes(learner.network.pool(oracle.first(hidden)))


def token_logits(learner: Learner, hidden: torch.Tensor) -> torch.Tensor:
    return learner.heads["masked"].tokens(oracle.in_order(hidden), learner.network.token_embedding.weight)


@shapes
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, FLOAT32), (torch.float64, FLOAT64)])
def test_states_and_pooler(tmp_path: Path, shape: Shape, dtype: torch.dtype, tolerance: float) -> None:
    model = oracle.build(shape, named(shape, "Model"))
    learner = reading(tmp_path, model, shape).learner.to(dtype).eval()
    with torch.no_grad():
        expected = model.to(dtype)(**oracle.padded(shape))
        hidden = learner.network(oracle.packed(shape))["tokens"]
        assert oracle.relative(oracle.in_order(hidden), oracle.live(expected.last_hidden_state)) <= tolerance
        assert oracle.relative(learner.network.pool(oracle.first(hidden)), expected.pooler_output) <= tolerance


@shapes
@pytest.mark.parametrize("labels", [1, 3])
def test_classification_logits(tmp_path: Path, shape: Shape, labels: int) -> None:
    model = oracle.build(shape, named(shape, "ForSequenceClassification"), num_labels=labels)
    found = reading(tmp_path, model, shape)
    (head,) = found.learner.heads
    assert head == ("regress" if labels == 1 else "classify")
    with torch.no_grad():
        expected = model(**oracle.padded(shape)).logits
        hidden = found.learner.eval().network(oracle.packed(shape))["tokens"]
        assert oracle.relative(pooled(found.learner, hidden, head), expected) <= FLOAT32


def targets(shape: Shape) -> tuple[list[dict[str, Any]], torch.Tensor]:
    """Return two masked tokens and an order label a sequence, and the former as Hugging Face takes them."""
    rng = np.random.default_rng(2)
    given, labels = [], torch.full((len(oracle.LENGTHS), max(oracle.LENGTHS)), -100)
    for row, length in enumerate(oracle.LENGTHS):
        index = np.sort(rng.permutation(length)[:2])
        label = rng.integers(oracle.SPECIAL, shape.vocab - 1, 2)
        labels[row, index] = torch.from_numpy(label)
        given.append({"masked": (index, label), "sentence_order": (np.array([0]), np.array([row % 2]))})
    return given, labels


@shapes
def test_pretraining_logits_loss_and_gradients(tmp_path: Path, shape: Shape) -> None:
    """Every gradient, over the largest of its tensor; keys' biases, whose gradient is 0, over the largest of all.

    In float64, but for losses, which take logits in float32: gradients through shared layers are sums of many.
    """
    model = oracle.build(shape, named(shape, "ForPreTraining"))
    found = reading(tmp_path, model, shape)
    model, learner = model.double(), found.learner.double().eval()
    given, labels = targets(shape)
    order = "sentence_order_label" if isinstance(shape, Albert) else "next_sentence_label"
    expected = model(**oracle.padded(shape), labels=labels, **{order: torch.arange(len(oracle.LENGTHS)) % 2})
    expected.loss.backward()
    batch = oracle.packed(shape, given)
    hidden = learner.network(batch)["tokens"]
    assert oracle.relative(token_logits(learner, hidden), oracle.live(expected.prediction_logits)) <= FLOAT32
    order_logits = expected.sop_logits if isinstance(shape, Albert) else expected.seq_relationship_logits
    assert oracle.relative(pooled(learner, hidden, "sentence_order"), order_logits) <= FLOAT32
    loss = learner.objective(learner(batch), learner.counts(batch))
    loss.backward()
    assert oracle.relative(loss.detach(), expected.loss.detach()) <= FLOAT32

    layout, _ = layout_for(found.recipe, learner.heads)
    table = layout.table(learner.heads)
    theirs_by_name = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    largest = max(float(gradient.abs().max()) for gradient in theirs_by_name.values())
    compared = set()
    for name, gradient in oracle.gradients(learner).items():
        names = theirs(name, table)
        for foreign, part in zip(names, gradient.chunk(len(names)), strict=True):
            exact = theirs_by_name[foreign]
            scale = largest if foreign.endswith("key.bias") else float(exact.abs().max())
            assert float((part - exact).abs().max()) <= FLOAT32 * scale, foreign
            compared.add(foreign)
    assert theirs_by_name.keys() == compared


KINDS = ["Model", "ForPreTraining", "ForMaskedLM", "ForNextSentencePrediction", "ForSequenceClassification"]


@shapes
@pytest.mark.parametrize("kind", KINDS)
def test_from_there_to_here_and_back(tmp_path: Path, shape: Shape, kind: str) -> None:
    if not hasattr(transformers, named(shape, kind)):
        pytest.skip("ALBERT has no such class")
    model = oracle.build(shape, named(shape, kind), **({"num_labels": 4} if "Sequence" in kind else {}))
    found = reading(tmp_path / "theirs", model, shape)
    save(tmp_path / "ours", found.recipe, found.learner, found.tokenizer)
    again, problems = type(model).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(problems.values()), problems
    weights = again.state_dict()
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    before, after = model.config.to_dict(), again.config.to_dict()
    tokens = {"pad_token_id", "bos_token_id", "eos_token_id"}  # written from the tokenizer
    free = {"_name_or_path", "transformers_version", "problem_type"} | tokens
    assert {k: v for k, v in before.items() if k not in free} == {k: v for k, v in after.items() if k not in free}
    assert max(verify(tmp_path / "ours", found.learner).values()) <= FLOAT32
    third = load(tmp_path / "ours")
    assert third.recipe == found.recipe
    assert list(third.learner.heads) == list(found.learner.heads)


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
    assert isinstance(classify, Classify)
    assert classify.dropout == 0.1
    assert layout_for(recipe, ["classify"])[1]["hidden_dropout_prob"] == 0.0

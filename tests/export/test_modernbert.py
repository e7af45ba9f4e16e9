"""Hugging Face's random ModernBERTs with global attention, read and written back: states, logits, loss, gradients."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import oracle
import pytest
import torch
from oracle import FLOAT32, Shape, reading, token_logits, transformers

from genus import catalog
from genus.errors import GenusError
from genus.export.folder import load, save
from genus.export.verify import verify

if TYPE_CHECKING:
    from pathlib import Path


class ModernBert(Shape):
    """ModernBERT with BERT's tokenizer; every second shape has biases in its layers."""

    def config(self, **more: Any) -> Any:
        rotary = {
            kind: {"rope_type": "default", "rope_theta": 500.0} for kind in ("full_attention", "sliding_attention")
        }
        given: dict[str, Any] = {
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden,
            "num_attention_heads": self.heads,
            "intermediate_size": self.inner,
            "vocab_size": self.vocab,
            "hidden_activation": self.activation,
            "norm_eps": self.eps,
            "layer_types": ["full_attention"] * self.layers,
            "rope_parameters": rotary,
            "norm_bias": True,
            "classifier_bias": True,
            "attention_bias": self.layers % 2 == 0,
            "mlp_bias": self.layers % 2 == 0,
            "global_attn_every_n_layers": 1,
            "pad_token_id": 0,
            "bos_token_id": None,
            "eos_token_id": None,
            "cls_token_id": 2,
            "sep_token_id": 3,
        }
        return transformers.ModernBertConfig(**(given | more))


SHAPES = [
    ModernBert("bert", 1, 8, 2, 16, 30, 12, "gelu", 0, 1e-5),
    ModernBert("bert", 2, 24, 3, 40, 101, 40, "gelu_new", 0, 1e-6),
    ModernBert("bert", 3, 32, 4, 96, 64, 16, "relu", 0, 1e-5),
]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: str(shape.layers))


def plain(shape: Shape) -> dict[str, torch.Tensor]:
    """Return the padded sequences without segments, which these classes do not take."""
    return {name: value for name, value in oracle.padded(shape).items() if name != "token_type_ids"}


@shapes
def test_states(tmp_path: Path, shape: Shape) -> None:
    """In float32: their angles are computed in it."""
    model = oracle.build(shape, "ModernBertModel")
    learner = reading(tmp_path, model, shape).learner.eval()
    with torch.no_grad():
        expected = oracle.live(model(**plain(shape)).last_hidden_state)
        found = oracle.in_order(learner.network(oracle.packed(shape))["tokens"])
    assert oracle.relative(found, expected) <= FLOAT32


@shapes
def test_masked_logits_loss_and_gradients(tmp_path: Path, shape: Shape) -> None:
    model = oracle.build(shape, "ModernBertForMaskedLM")
    found = reading(tmp_path, model, shape)
    learner = found.learner.eval()
    given, labels = oracle.masked_targets(shape)
    expected = model(**plain(shape), labels=labels)
    expected.loss.backward()
    batch = oracle.packed(shape, given)
    hidden = learner.network(batch)["tokens"]
    assert oracle.relative(token_logits(learner, hidden), oracle.live(expected.logits)) <= FLOAT32
    loss = learner.objective(learner(batch).sums, learner.counts(batch))
    loss.backward()
    assert oracle.relative(loss.detach(), expected.loss.detach()) <= FLOAT32
    oracle.same_gradients(found, model)


@shapes
@pytest.mark.parametrize("labels", [1, 3])
def test_classification_logits(tmp_path: Path, shape: Shape, labels: int) -> None:
    model = oracle.build(shape, "ModernBertForSequenceClassification", num_labels=labels)
    oracle.same_classes(reading(tmp_path, model, shape).learner, model, shape)


@shapes
@pytest.mark.parametrize("kind", ["Model", "ForMaskedLM", "ForSequenceClassification"])
def test_there_and_back_is_the_identity(tmp_path: Path, shape: Shape, kind: str) -> None:
    model = oracle.build(shape, "ModernBert" + kind)
    oracle.there_and_back(tmp_path / "ours", reading(tmp_path / "theirs", model, shape), model)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"norm_bias": False}, "norm_bias"),
        ({"attention_dropout": 0.1}, "attention_dropout"),
    ],
)
def test_others_are_refused_by_the_key(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    """ModernBERT as published has local layers and norms without a bias."""
    reading(tmp_path, oracle.build(SHAPES[1], "ModernBertForMaskedLM"), SHAPES[1])
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    (tmp_path / "recipe.json").unlink(missing_ok=True)
    with pytest.raises(GenusError, match=key):
        load(tmp_path)


def test_genus_is_read_by_transformers(tmp_path: Path) -> None:
    """A row of our own, exported and compared; its tokenizer gives no segments, which the class does not take."""
    recipe = catalog.load("genus/tiny", ["tokens.vocab_size=101"])
    tokenizer = oracle.tokenizer(tmp_path / "words", "bert", 101)
    torch.manual_seed(0)
    learner = recipe.learner()
    save(tmp_path / "model", recipe, learner, tokenizer)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["architectures"] == ["ModernBertForMaskedLM"]
    assert "transformers/masked_lm" in verify(tmp_path / "model", learner)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert set(theirs("p1 p2")) == {"input_ids", "attention_mask"}

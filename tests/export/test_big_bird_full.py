"""Random BigBirds of Hugging Face that attend in full, read and written back: states, logits, loss, gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import oracle
import pytest
import torch
from oracle import FLOAT32, Shape, precisions, reading, transformers
from test_big_bird import KINDS

from genus import catalog, pipeline
from genus.export.layouts import layout_for
from genus.export.verify import verify
from genus.model.attention.block_sparse.layer import BlockSparseAttention
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding.tables import EarlyDropoutEmbedding
from genus.model.transformer import Transformer

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Full(Shape):
    """BigBird in full, with BERT's tokenizer."""

    def config(self, **more: Any) -> Any:
        return transformers.BigBirdConfig(**self.settings() | {"attention_type": "original_full"} | more)


SHAPES = [
    Full("bert", 1, 8, 2, 16, 30, 12, "gelu_new", 2, 1e-12),
    Full("bert", 2, 24, 3, 40, 101, 80, "gelu", 2, 1e-12),
    Full("bert", 3, 32, 4, 96, 64, 16, "relu", 3, 1e-6),
]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.layers}-{shape.activation}")
FORGOTTEN = {"block_size", "num_random_blocks"}
"""Keys without meaning for full attention, of which Hugging Face's defaults are read again."""


@shapes
@precisions
def test_states_of_full_bigbird(tmp_path: Path, shape: Full, dtype: torch.dtype, tolerance: float) -> None:
    model = oracle.build(shape, "BigBirdModel")
    found = reading(tmp_path, model, shape)
    assert isinstance(found.recipe.model, Transformer)
    assert found.recipe.model.attention == MultiHeadAttention(heads=shape.heads)
    assert isinstance(found.recipe.model.embedding, EarlyDropoutEmbedding)
    oracle.same_states(found.learner.to(dtype), model.to(dtype), shape, tolerance)


@shapes
@precisions
def test_logits_and_gradients_of_full_bigbird(
    tmp_path: Path, shape: Full, dtype: torch.dtype, tolerance: float
) -> None:
    model = oracle.build(shape, "BigBirdForPreTraining")
    found = reading(tmp_path, model, shape)
    learner, model = found.learner.eval().to(dtype), model.to(dtype)
    theirs = model(**oracle.padded(shape))
    hidden = learner.network(oracle.packed(shape))["tokens"]
    tokens, pairs = oracle.token_logits(learner, hidden), oracle.pooled(learner, hidden, "next_sentence")
    expected = oracle.live(theirs.prediction_logits), theirs.seq_relationship_logits
    assert oracle.relative(tokens, expected[0]) <= tolerance
    assert oracle.relative(pairs, expected[1]) <= tolerance
    weights = [torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).to(dtype) for x in expected]
    for outputs in ((tokens, pairs), expected):
        sum((x * w).sum() for x, w in zip(outputs, weights, strict=True)).backward()
    oracle.same_gradients(found, model, learner=learner, bound=3 * tolerance)


@shapes
def test_loss_and_its_gradients_of_full_bigbird(tmp_path: Path, shape: Full) -> None:
    model = oracle.build(shape, "BigBirdForPreTraining")
    found = reading(tmp_path, model, shape)
    learner = found.learner.eval()
    targets, labels = oracle.masked_targets(shape, "next_sentence")
    pairs = torch.arange(len(oracle.LENGTHS)) % 2
    expected = model(**oracle.padded(shape), labels=labels, next_sentence_label=pairs).loss
    expected.backward()
    batch = oracle.packed(shape, targets)
    loss = learner.objective(learner(batch).sums, learner.counts(batch))
    loss.backward()
    assert oracle.relative(loss.detach(), expected.detach()) <= FLOAT32
    oracle.same_gradients(found, model)


@shapes
@pytest.mark.parametrize(("kind", "more"), KINDS.items(), ids=KINDS)
def test_full_from_there_to_here_and_back(tmp_path: Path, shape: Full, kind: str, more: dict[str, Any]) -> None:
    model = oracle.build(shape, f"BigBird{kind.strip()}", block_size=4, num_random_blocks=1, **more)
    found = reading(tmp_path / "theirs", model, shape)
    if "Sequence" in kind:
        oracle.same_classes(found.learner, model, shape)
    oracle.there_and_back(
        tmp_path / "ours",
        found,
        model,
        free=FORGOTTEN | {"dtype"},
        unused={"bert.pooler.weight", "bert.pooler.bias"} if "Sequence" in kind else set(),
    )
    assert transformers.AutoConfig.from_pretrained(tmp_path / "ours").attention_type == "original_full"
    assert max(verify(tmp_path / "ours", found.learner).values()) <= FLOAT32


def small(tokenizer: Any) -> Any:
    """Return `bigbird/tiny` as wide as the middle shape, with blocks of 4."""
    sizes = {
        "layers": 2,
        "hidden": 24,
        "feedforward": {"size": 40},
        "attention": {"heads": 3, "block_size": 4, "num_global_tokens": 4},
    }
    return replace(catalog.load("bigbird/tiny").overlay({"model": sizes}), tokens=tokenizer.tokens)


def test_a_sparse_bigbird_starts_from_a_full_one(tmp_path: Path) -> None:
    shape = SHAPES[1]
    found = reading(tmp_path, oracle.build(shape, "BigBirdForMaskedLM"), shape)
    recipe, learner = pipeline.from_pretrained(small(found.tokenizer), found.tokenizer, tmp_path)
    assert isinstance(recipe.model, Transformer)
    assert isinstance(recipe.model.attention, BlockSparseAttention)
    given = found.learner.state_dict()
    table = "network.embed.positions.table.weight"
    assert all(torch.equal(x, given[name]) for name, x in learner.state_dict().items() if name != table)


def test_bert_and_full_bigbird_are_told_apart_by_where_dropout_stands(tmp_path: Path) -> None:
    """Both ways: BERT with any tokenizer and BigBird's activation stays BERT, and a full BigBird stays BigBird."""
    bert = catalog.load("bert/tiny").overlay(
        {"model": {"feedforward": {"activation": {"kind": "Gelu", "approximate": "tanh"}}}}
    )
    found = reading(tmp_path, oracle.build(SHAPES[0], "BigBirdForMaskedLM"), SHAPES[0])
    for recipe, model_type in ((bert, "bert"), (found.recipe, "big_bird")):
        layout, _ = layout_for(recipe, []) or pytest.fail("no layout")
        assert layout.model_type == model_type

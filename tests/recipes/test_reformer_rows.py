"""Reformer's rows: their parameters are Hugging Face's to the last one, and their settings the released ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from genus import catalog
from genus.export.layouts import layout_for
from genus.model.skeleton import skeleton
from genus.model.transformer import Transformer

if TYPE_CHECKING:
    import torch

    from genus.recipe import Recipe

transformers = pytest.importorskip("transformers")

RELEASED: dict[str, dict[str, Any]] = {
    "reformer/enwik8": {
        "attention_head_size": 128, "attn_layers": ["local", "local", "lsh", "local"] * 3,
        "axial_pos_embds_dim": [256, 768], "axial_pos_shape": [128, 512], "feed_forward_size": 4096,
        "hidden_act": "relu", "hidden_dropout_prob": 0.2, "hidden_size": 1024, "is_decoder": True,
        "local_attention_probs_dropout_prob": 0.2, "local_attn_chunk_length": 128, "local_num_chunks_after": 0,
        "local_num_chunks_before": 1, "lsh_attention_probs_dropout_prob": 0.1, "lsh_attn_chunk_length": 256,
        "lsh_num_chunks_after": 0, "lsh_num_chunks_before": 1, "max_position_embeddings": 65536,
        "num_attention_heads": 8, "num_buckets": 512, "num_hashes": 4, "chunk_size_feed_forward": 0,
        "axial_norm_std": 1.0, "initializer_range": 0.02, "layer_norm_eps": 1e-12,
    },
    "reformer/crime-and-punishment": {
        "attention_head_size": 64, "attn_layers": ["local", "lsh"] * 3, "axial_pos_embds_dim": [64, 192],
        "axial_pos_shape": [512, 1024], "feed_forward_size": 512, "hidden_act": "relu", "hidden_dropout_prob": 0.05,
        "hidden_size": 256, "is_decoder": True, "local_attention_probs_dropout_prob": 0.05,
        "local_attn_chunk_length": 64, "local_num_chunks_after": 0, "local_num_chunks_before": 1,
        "lsh_attention_probs_dropout_prob": 0.0, "lsh_attn_chunk_length": 64, "lsh_num_chunks_after": 0,
        "lsh_num_chunks_before": 1, "max_position_embeddings": 524288, "num_attention_heads": 2,
        "num_buckets": [64, 128], "num_hashes": 1, "chunk_size_feed_forward": 0,
        "axial_norm_std": 1.0, "initializer_range": 0.02, "layer_norm_eps": 1e-12,
    },
}  # fmt: skip
"""Configurations of google/reformer-enwik8 and google/reformer-crime-and-punishment."""
VOCABULARIES = {"reformer/enwik8": 258, "reformer/crime-and-punishment": 320}
BOOK = [f"On an exceptionally hot evening early in July {n}, a young man came out of the garret." for n in range(9)]


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def configuration(recipe: Recipe) -> dict[str, Any]:
    fitting = layout_for(recipe, [objective.name for objective in recipe.objectives])
    assert fitting is not None
    return fitting[1]


@pytest.mark.parametrize("name", RELEASED)
def test_the_configuration_is_the_released_one(name: str) -> None:
    recipe = catalog.load(name)
    config = configuration(recipe)
    assert {key: config[key] for key in RELEASED[name]} == RELEASED[name]
    assert recipe.tokens.vocab_size == VOCABULARIES[name]


@pytest.mark.parametrize("name", [*RELEASED, "reformer/mini", "reformer/tiny"])
def test_parameters_equal_hugging_faces(name: str) -> None:
    """There, `lm_head.bias` is a parameter, which no logit reads."""
    recipe = catalog.load(name)
    config = configuration(recipe)
    (architecture,) = config.pop("architectures")
    size = recipe.tokens.vocab_size
    with skeleton():
        official = getattr(transformers, architecture)(transformers.AutoConfig.for_model(**config, vocab_size=size))
        ours = recipe.learner()
    assert parameters(ours) == parameters(official) - size
    assert parameters(ours.network) == parameters(official.reformer)


def test_the_special_ids_are_the_released_ones() -> None:
    """The configuration of google/reformer-crime-and-punishment has pad_token_id 0 and eos_token_id 2."""
    facts = catalog.load("reformer/crime-and-punishment").tokens.train(BOOK).vocabulary
    assert (facts.pad, facts.unk, facts.cls, facts.sep) == (0, 0, 1, 2)


def test_the_rate_is_the_released_one_at_the_end_of_warm_up() -> None:
    recipe = catalog.load("reformer")
    assert recipe.name == "reformer/enwik8"
    assert recipe.schedule.to_json()["warmup"] * recipe.budget.amount == 2_000
    assert recipe.optimizer.lr == pytest.approx(0.03125 / math.sqrt(2_000), rel=1e-4)


@pytest.mark.parametrize("size", ["mini", "tiny"])
def test_our_rows_are_of_the_sizes_of_berts(size: str) -> None:
    ours, bert = catalog.load(f"reformer/{size}"), catalog.load(f"bert/{size}")
    assert isinstance(ours.model, Transformer)
    assert isinstance(bert.model, Transformer)
    assert (ours.model.layers, ours.model.hidden) == (bert.model.layers, bert.model.hidden)
    assert (ours.stages, ours.budget, ours.tokens.vocab_size) == (bert.stages, bert.budget, bert.tokens.vocab_size)

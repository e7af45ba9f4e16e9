"""Hugging Face's XLNet classes: `XLNetModel`, `XLNetLMHeadModel`, `XLNetForSequenceClassification`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from genus.examples.formats.carried_pairs import CarriedPairs
from genus.export.layouts import HeadLayout, Layout, Setting
from genus.export.layouts.bert import TEMPLATE
from genus.export.layouts.conventions import (
    LABELS,
    SEQUENCE_DROPOUT,
    activation,
    architectures,
    only,
    sequence_heads,
    span_head,
    under,
    word_head,
)
from genus.export.layouts.maps import Map, Op, Permute, Transpose, Unflatten
from genus.model.attention.two_stream import TwoStreamAttention
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.norm import Identity
from genus.model.pooler import Pooler
from genus.model.position import NoPosition
from genus.model.segment_recurrence import SegmentRecurrentTransformer
from genus.objectives.pretraining.permutation_lm import PermutationLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import FineTuning, Published
from genus.tokens.algorithms.unigram import XLNET, Unigram

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.export.layouts.maps import Table
    from genus.part import Json

NO_END = -1
"""Value of `clamp_len` in the configuration for distances without clamping."""


def write_longest(longest: int | None) -> int:
    """Return `clamp_len`, the largest relative distance, or `NO_END` for none."""
    return NO_END if longest is None else longest


def read_longest(length: int) -> int | None:
    """Return the largest relative distance, None for no clamping."""
    return None if length == NO_END else length


def to_heads(config: Json) -> Op:
    """Return the operation from a linear layer's weight (A D, H) to XLNet's axes (H, A, D)."""
    return Unflatten(config["n_head"]).then(Permute((2, 0, 1)))


def from_heads(config: Json) -> Op:
    """Return the operation from a linear layer's weight (H, A D) to XLNet's axes (H, A, D)."""
    return Transpose().then(to_heads(config))


def row(ours: str, theirs: str, there: Callable[[Json], Op]) -> Table:
    """Return the row of one tensor, with the operation between genus and Hugging Face."""
    return {ours: Map((ours,), (theirs,), there)}


LAYERS: Table = {
    **row("network.layers.{}.attention.query.weight", "layer.{}.rel_attn.q", to_heads),
    **row("network.layers.{}.attention.key.weight", "layer.{}.rel_attn.k", to_heads),
    **row("network.layers.{}.attention.value.weight", "layer.{}.rel_attn.v", to_heads),
    **row("network.layers.{}.attention.relative.weight", "layer.{}.rel_attn.r", to_heads),
    **row("network.layers.{}.attention.out.weight", "layer.{}.rel_attn.o", from_heads),
    "network.layers.{}.attention.content_bias": ("layer.{}.rel_attn.r_w_bias",),
    "network.layers.{}.attention.position_bias": ("layer.{}.rel_attn.r_r_bias",),
    "network.layers.{}.attention.segment_bias": ("layer.{}.rel_attn.r_s_bias",),
    "network.layers.{}.attention.segments": ("layer.{}.rel_attn.seg_embed",),
    "network.layers.{}.attention_norm": ("layer.{}.rel_attn.layer_norm",),
    "network.layers.{}.feedforward.inner": ("layer.{}.ff.layer_1",),
    "network.layers.{}.feedforward.out": ("layer.{}.ff.layer_2",),
    "network.layers.{}.feedforward_norm": ("layer.{}.ff.layer_norm",),
    "network.embed.tokens": ("word_embedding",),
    "network.query": ("mask_emb",),
}
SUMMARY = {"network.pooler.0": ("sequence_summary.summary",)}

LAYOUT = Layout(
    model_type="xlnet",
    prefix="transformer.",
    template=replace(
        TEMPLATE,
        name="xlnet/imported",
        published=Published(title="XLNet", paper="arXiv:1906.08237", year=2019),
        tokens=Unigram(vocab_size=32_000, lowercase=False, special_tokens=XLNET),
        examples=CarriedPairs(),
        model=SegmentRecurrentTransformer(
            layers=24,
            hidden=1024,
            attention=TwoStreamAttention(heads=16),
            feedforward=MLP(size=4096),
            embedding=Embedding(segments=0, position=NoPosition(), norm=Identity()),
            memory=512,
            pooler=Pooler(),
        ),
        objectives=(PermutationLM(),),
        finetuning=FineTuning(
            optimizer=AdamW(lr=2e-5, eps=1e-6, weight_decay=0.01, clip_norm=1.0, bias_correction=False),
            schedule=Linear(warmup=0.1),
            epochs=3,
            batch=32,
        ),
    ),
    settings=(
        Setting("n_layer", ("model.layers",)),
        Setting("d_model", ("model.hidden",)),
        Setting("n_head", ("model.attention.heads",)),
        Setting("d_inner", ("model.feedforward.size",)),
        activation("model.feedforward.activation", key="ff_activation"),
        Setting("dropout", ("model.dropout", "model.embedding.dropout", "model.attention.dropout")),
        Setting("layer_norm_eps", ("model.norm.eps",)),
        Setting("initializer_range", ("model.initialization.std",)),
        Setting("mem_len", ("model.memory",)),
        Setting("clamp_len", ("model.attention.clamp_len",), write_longest, read_longest),
        Setting("summary_last_dropout", SEQUENCE_DROPOUT),
        LABELS,
        Setting("attn_type", (), read=only("bi")),
        Setting("same_length", (), read=only(False)),
        Setting("bi_data", (), read=only(False)),
        Setting("summary_type", (), read=only("last")),
        Setting("summary_use_proj", (), read=only(True)),
        Setting("summary_activation", (), read=only("tanh")),
    ),
    tensors=under("transformer.", LAYERS) | SUMMARY,
    optional={"pooler": "network.pooler.0"},
    heads={
        "permutation_lm": HeadLayout(
            objective=PermutationLM(),
            tensors={"heads.permutation_lm.lm_head": ("lm_loss",)},
            free=frozenset({"selection"}),
        ),
        **sequence_heads("logits_proj"),
        **word_head(free=frozenset({"dropout"})),  # the class has no dropout
        **span_head(),
    },
    architectures=architectures("XLNet", {("permutation_lm",): "LMHeadModel"})
    # the class without this end searches for the end of an answer given its beginning
    | {frozenset({"span_extraction"}): "XLNetForQuestionAnsweringSimple"},
    tied={"lm_loss.weight": "transformer.word_embedding.weight"},
)

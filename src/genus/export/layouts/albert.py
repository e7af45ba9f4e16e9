"""Hugging Face's ALBERT classes, from `AlbertModel` and `AlbertForPreTraining` to `AlbertForTokenClassification`."""

from __future__ import annotations

from dataclasses import replace

from genus.examples.formats.ordered_pairs import OrderedPairs
from genus.export.layouts import Layout, Setting
from genus.export.layouts.bert import TEMPLATE, WIDTHS
from genus.export.layouts.conventions import (
    POSITIONS,
    SEQUENCE_DROPOUT,
    activation,
    architectures,
    masked_head,
    pooled_head,
    sequence_heads,
    span_head,
    tied_decoder,
    under,
    without,
    word_head,
)
from genus.model.activation import Gelu
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding.tables import FactorizedEmbedding
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead, Transform
from genus.model.pooler import Pooler
from genus.model.stack.sharing import CrossLayerSharing
from genus.model.transformer import Transformer
from genus.objectives.pretraining.labels import SequenceLabels
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import FineTuning, Published
from genus.tokens.algorithms.unigram import Unigram


def read_inner(layers: int) -> int:
    """Return the number of layers per group, which must be 1, as in all published models; else raise a LookupError."""
    if layers != 1:
        raise LookupError("several layers in a group")
    return layers


GELU = Gelu(approximate="tanh")
MASKED = MaskedLM(output=LMHead(transform=Transform(activation=GELU)))
LAYER = "encoder.albert_layer_groups.{}.albert_layers.0."

LAYOUT = Layout(
    model_type="albert",
    prefix="albert.",
    template=replace(
        TEMPLATE,
        name="albert/imported",
        published=Published(title="ALBERT", paper="arXiv:1909.11942", year=2019),
        tokens=Unigram(vocab_size=30_000),
        examples=OrderedPairs(),
        model=Transformer(
            layers=12,
            hidden=4096,
            attention=MultiHeadAttention(heads=64, dropout=0.0),
            feedforward=MLP(size=16384, activation=GELU),
            embedding=FactorizedEmbedding(size=128, segments=2, dropout=0.0),
            stack=CrossLayerSharing(groups=1),
            pooler=Pooler(),
            dropout=0.0,
        ),
        objectives=(
            MASKED,
            SequenceLabels(label="sentence_order"),
        ),
        finetuning=FineTuning(
            optimizer=AdamW(lr=1e-5, eps=1e-6, weight_decay=0.01, clip_norm=1.0),
            schedule=Linear(warmup=0.06),
            epochs=10,
            batch=32,
        ),
    ),
    settings=(
        *without(WIDTHS, "classifier_dropout"),
        Setting("classifier_dropout_prob", (*SEQUENCE_DROPOUT, "token_classification.dropout")),
        Setting("embedding_size", ("model.embedding.size",)),
        Setting("num_hidden_groups", ("model.stack.groups",)),
        Setting("inner_group_num", (), read=read_inner),
        POSITIONS,
        activation("model.feedforward.activation", "masked_lm.output.transform.activation"),
    ),
    tensors=under(
        "albert.",
        {
            "network.layers.{}.attention.query": (LAYER + "attention.query",),
            "network.layers.{}.attention.key": (LAYER + "attention.key",),
            "network.layers.{}.attention.value": (LAYER + "attention.value",),
            "network.layers.{}.attention.out": (LAYER + "attention.dense",),
            "network.layers.{}.attention_norm": (LAYER + "attention.LayerNorm",),
            "network.layers.{}.feedforward.inner": (LAYER + "ffn",),
            "network.layers.{}.feedforward.out": (LAYER + "ffn_output",),
            "network.layers.{}.feedforward_norm": (LAYER + "full_layer_layer_norm",),
            "network.embed.tokens": ("embeddings.word_embeddings",),
            "network.embed.positions.table": ("embeddings.position_embeddings",),
            "network.embed.segments": ("embeddings.token_type_embeddings",),
            "network.embed.norm": ("embeddings.LayerNorm",),
            "network.embed.projection": ("encoder.embedding_hidden_mapping_in",),
            "network.pooler.0": ("pooler",),
        },
    ),
    optional={"pooler": "network.pooler.0"},
    heads={
        "masked_lm": masked_head(
            "predictions",
            "predictions.dense",
            "predictions.LayerNorm",
            MASKED,
        ),
        "sentence_order": pooled_head(SequenceLabels(label="sentence_order"), "sop_classifier.classifier"),
        **sequence_heads("classifier"),
        **word_head(),
        **span_head(),
    },
    architectures=architectures(
        "Albert", {("masked_lm", "sentence_order"): "ForPreTraining", ("masked_lm",): "ForMaskedLM"}
    ),
    tied=tied_decoder("predictions", "albert."),
)

"""Hugging Face's DistilBERT classes: `DistilBertModel`, `DistilBertForMaskedLM`, `DistilBertForSequenceClassification`.

The network has no pooler; the classifier has its own, with a ReLU.
"""

from __future__ import annotations

from dataclasses import replace

from genus.examples.formats.sentences import DocSentences
from genus.export.layouts import Layout, Setting
from genus.export.layouts.bert import TEMPLATE
from genus.export.layouts.conventions import (
    LABELS,
    POSITIONS,
    SEQUENCE_DROPOUT,
    activation,
    architectures,
    masked_head,
    sequence_heads,
    span_head,
    under,
    word_head,
)
from genus.model.activation import Relu
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.pooler import Pooler
from genus.model.transformer import Transformer
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import FineTuning, Published
from genus.tokens.algorithms.wordpiece import WordPiece

LAYER = "transformer.layer.{}."

LAYOUT = Layout(
    model_type="distilbert",
    prefix="distilbert.",
    template=replace(
        TEMPLATE,
        name="distilbert/imported",
        published=Published(title="DistilBERT", paper="arXiv:1910.01108", year=2019),
        tokens=WordPiece(vocab_size=30_522, lowercase=True),
        examples=DocSentences(),
        model=Transformer(
            layers=6,
            hidden=768,
            attention=MultiHeadAttention(heads=12),
            feedforward=MLP(size=3072),
            embedding=Embedding(segments=0),
            pooler=Pooler(activation=Relu()),
        ),
        objectives=(MaskedLM(),),
        # Genus's defaults for further pretraining, as in the layout of BERT.
        optimizer=AdamW(lr=5e-5, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01, clip_norm=1.0),
        finetuning=FineTuning(
            optimizer=AdamW(lr=3e-5, eps=1e-8, weight_decay=0.0, clip_norm=1.0),
            schedule=Linear(warmup=0.0),
            epochs=3,
            batch=32,
            pooler=Pooler(activation=Relu()),
            dropout=0.2,
        ),
    ),
    settings=(
        Setting("initializer_range", ("model.initialization.std",)),
        LABELS,
        Setting("n_layers", ("model.layers",)),
        Setting("dim", ("model.hidden",)),
        Setting("n_heads", ("model.attention.heads",)),
        Setting("hidden_dim", ("model.feedforward.size",)),
        Setting("attention_dropout", ("model.attention.dropout",)),
        Setting("dropout", ("model.dropout", "model.embedding.dropout")),
        Setting("seq_classif_dropout", SEQUENCE_DROPOUT),
        Setting("qa_dropout", ("span_extraction.dropout",)),
        POSITIONS,
        activation("model.feedforward.activation", "masked_lm.output.transform.activation", key="activation"),
    ),
    tensors={
        **under(
            "distilbert.",
            {
                "network.layers.{}.attention.query": (LAYER + "attention.q_lin",),
                "network.layers.{}.attention.key": (LAYER + "attention.k_lin",),
                "network.layers.{}.attention.value": (LAYER + "attention.v_lin",),
                "network.layers.{}.attention.out": (LAYER + "attention.out_lin",),
                "network.layers.{}.attention_norm": (LAYER + "sa_layer_norm",),
                "network.layers.{}.feedforward.inner": (LAYER + "ffn.lin1",),
                "network.layers.{}.feedforward.out": (LAYER + "ffn.lin2",),
                "network.layers.{}.feedforward_norm": (LAYER + "output_layer_norm",),
                "network.embed.tokens": ("embeddings.word_embeddings",),
                "network.embed.positions.table": ("embeddings.position_embeddings",),
                "network.embed.norm": ("embeddings.LayerNorm",),
            },
        ),
        "network.pooler.0": ("pre_classifier",),
    },
    optional={"pooler": "network.pooler.0"},
    heads={
        "masked_lm": masked_head("vocab_projector", "vocab_transform", "vocab_layer_norm"),
        **sequence_heads("classifier"),
        **word_head(free=frozenset({"dropout"})),  # the head has the dropout of the layers
        **span_head(free=frozenset()),
    },
    architectures=architectures("DistilBert", {("masked_lm",): "ForMaskedLM"}),
    tied={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
)

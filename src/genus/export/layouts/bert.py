"""Hugging Face's BERT classes, from `BertModel` and `BertForPreTraining` to `BertForTokenClassification`."""

from __future__ import annotations

from genus.examples.formats.segment_pairs import SegmentPairs
from genus.export.layouts import Layout, Setting
from genus.export.layouts.conventions import (
    CLASSIFIER_DROPOUT,
    LABELS,
    POSITIONS,
    activation,
    architectures,
    masked_head,
    pooled_head,
    sequence_heads,
    span_head,
    tied_decoder,
    under,
    word_head,
)
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.pooler import Pooler
from genus.model.transformer import Transformer
from genus.objectives.pretraining.labels import SequenceLabels
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.wordpiece import WordPiece


def write_segments(segments: int) -> int:
    """Return the number of segment embeddings; raise a `LookupError` for 0, which these classes do not support."""
    if segments < 1:
        raise LookupError("no segment vectors")
    return segments


WIDTHS = (
    Setting("num_hidden_layers", ("model.layers",)),
    Setting("hidden_size", ("model.hidden",)),
    Setting("num_attention_heads", ("model.attention.heads",)),
    Setting("intermediate_size", ("model.feedforward.size",)),
    Setting("type_vocab_size", ("model.embedding.segments",), write_segments),
    Setting("attention_probs_dropout_prob", ("model.attention.dropout",)),
    Setting("hidden_dropout_prob", ("model.dropout", "model.embedding.dropout")),
    Setting("layer_norm_eps", ("model.norm.eps", "model.embedding.norm.eps", "masked_lm.output.transform.norm.eps")),
    Setting("initializer_range", ("model.initialization.std",)),
    CLASSIFIER_DROPOUT,
    LABELS,
)
"""Settings that BERT and the architectures made of its parts share."""

LAYERS = {
    "network.layers.{}.attention.query": ("encoder.layer.{}.attention.self.query",),
    "network.layers.{}.attention.key": ("encoder.layer.{}.attention.self.key",),
    "network.layers.{}.attention.value": ("encoder.layer.{}.attention.self.value",),
    "network.layers.{}.attention.out": ("encoder.layer.{}.attention.output.dense",),
    "network.layers.{}.attention_norm": ("encoder.layer.{}.attention.output.LayerNorm",),
    "network.layers.{}.feedforward.inner": ("encoder.layer.{}.intermediate.dense",),
    "network.layers.{}.feedforward.out": ("encoder.layer.{}.output.dense",),
    "network.layers.{}.feedforward_norm": ("encoder.layer.{}.output.LayerNorm",),
    "network.embed.tokens": ("embeddings.word_embeddings",),
    "network.embed.positions.table": ("embeddings.position_embeddings",),
    "network.embed.segments": ("embeddings.token_type_embeddings",),
    "network.embed.norm": ("embeddings.LayerNorm",),
    "network.pooler.0": ("pooler.dense",),
}
"""Rows of the network's tensors, without the prefix of Hugging Face names."""


TEMPLATE = Recipe(
    name="bert/imported",
    published=Published(title="BERT", paper="arXiv:1810.04805", year=2018),
    tokens=WordPiece(vocab_size=30_522, lowercase=True),
    examples=SegmentPairs(short=0.1, random_next=0.5),
    model=Transformer(
        layers=12,
        hidden=768,
        attention=MultiHeadAttention(heads=12),
        feedforward=MLP(size=3072),
        embedding=Embedding(segments=2),
        pooler=Pooler(),
    ),
    objectives=(MaskedLM(), SequenceLabels(label="next_sentence")),
    # Genus's defaults for further pretraining: half the peak learning rate and a tenth of the steps of the recipes.
    optimizer=AdamW(lr=5e-5, eps=1e-6, weight_decay=0.01, clip_norm=1.0),
    schedule=Linear(warmup=0.05),
    stages=(Stage(max_length=128, batch=256, micro_batch=32),),
    budget=Budget(amount=10_000, unit="steps"),
    finetuning=FineTuning(
        optimizer=AdamW(lr=3e-5, eps=1e-6, weight_decay=0.01, clip_norm=1.0),
        schedule=Linear(warmup=0.1),
        epochs=3,
        batch=32,
    ),
)
"""Further pretraining and fine-tuning of BERT; related layouts replace what differs."""

MASKED = ("cls.predictions", "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm")
"""Names of the masked language model head: output layer, dense layer and layer normalization."""

LAYOUT = Layout(
    model_type="bert",
    prefix="bert.",
    template=TEMPLATE,
    settings=(
        *WIDTHS,
        POSITIONS,
        activation("model.feedforward.activation", "masked_lm.output.transform.activation"),
    ),
    tensors=under("bert.", LAYERS),
    optional={"pooler": "network.pooler.0"},
    heads={
        "masked_lm": masked_head(*MASKED),
        "next_sentence": pooled_head(SequenceLabels(label="next_sentence"), "cls.seq_relationship"),
        **sequence_heads("classifier"),
        **word_head(),
        **span_head(),
    },
    architectures=architectures(
        "Bert",
        {
            ("masked_lm", "next_sentence"): "ForPreTraining",
            ("masked_lm",): "ForMaskedLM",
            ("next_sentence",): "ForNextSentencePrediction",
        },
    ),
    tied=tied_decoder("cls.predictions", "bert."),
)

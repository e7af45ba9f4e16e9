"""Hugging Face's Megatron-BERT classes, from `MegatronBertModel` to `MegatronBertForTokenClassification`."""

from __future__ import annotations

from dataclasses import replace

from genus.examples.formats.ordered_pairs import OrderedPairs
from genus.export.layouts import Layout, Setting
from genus.export.layouts.bert import LAYERS, MASKED, TEMPLATE, WIDTHS
from genus.export.layouts.conventions import (
    POSITIONS,
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
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import PreNorm
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.norm import Identity
from genus.model.pooler import Pooler
from genus.model.transformer import Transformer
from genus.objectives.pretraining.labels import SequenceLabels
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import FineTuning, Published
from genus.stages import Stage
from genus.tokens.algorithms.wordpiece import WordPiece

LAYOUT = Layout(
    model_type="megatron-bert",
    prefix="bert.",
    template=replace(
        TEMPLATE,
        name="megatron-bert/imported",
        published=Published(title="Megatron-LM", paper="arXiv:1909.08053", year=2019),
        tokens=WordPiece(vocab_size=29_056, lowercase=False),
        examples=OrderedPairs(),
        model=Transformer(
            layers=24,
            hidden=1024,
            attention=MultiHeadAttention(heads=16),
            feedforward=MLP(size=4096),
            embedding=Embedding(segments=2, norm=Identity()),
            block=PreNorm(),
            pooler=Pooler(),
        ),
        objectives=(MaskedLM(), SequenceLabels(label="sentence_order")),
        # Genus's defaults for further pretraining, as in the layout of BERT.
        optimizer=AdamW(lr=5e-5, eps=1e-8, weight_decay=0.01, clip_norm=1.0),
        stages=(Stage(max_length=128, batch=256, micro_batch=16),),
        finetuning=FineTuning(
            optimizer=AdamW(lr=1e-5, eps=1e-8, weight_decay=0.1, clip_norm=1.0),
            schedule=Linear(warmup=0.065),
            epochs=10,
            batch=128,
        ),
    ),
    settings=(
        *without(WIDTHS, "layer_norm_eps", "classifier_dropout"),  # applied in other places, or not at all
        Setting("layer_norm_eps", ("model.norm.eps", "masked_lm.output.transform.norm.eps")),
        POSITIONS,
        activation("model.feedforward.activation", "masked_lm.output.transform.activation"),
    ),
    tensors=under(
        "bert.",
        {ours: names for ours, names in LAYERS.items() if ours != "network.embed.norm"}
        | {
            "network.layers.{}.attention_norm": ("encoder.layer.{}.attention.ln",),
            "network.layers.{}.feedforward_norm": ("encoder.layer.{}.ln",),
            "network.norm": ("encoder.ln",),
        },
    ),
    optional={"pooler": "network.pooler.0"},
    heads={
        "masked_lm": masked_head(*MASKED),
        "sentence_order": pooled_head(SequenceLabels(label="sentence_order"), "cls.seq_relationship"),
        # These heads have the dropout of the layers.
        **sequence_heads("classifier", free=frozenset({"dropout"})),
        **word_head(free=frozenset({"dropout"})),
        **span_head(),
    },
    architectures=architectures(
        "MegatronBert",
        {
            ("masked_lm", "sentence_order"): "ForPreTraining",
            ("masked_lm",): "ForMaskedLM",
            ("sentence_order",): "ForNextSentencePrediction",
        },
    ),
    tied=tied_decoder("cls.predictions", "bert."),
)

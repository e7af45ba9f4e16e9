"""Hugging Face's ELECTRA classes, for the discriminator, the generator and fine-tuning.

Discriminator and generator folders have the same `model_type` and network; they differ in their heads.
"""

from __future__ import annotations

from dataclasses import replace

from genus.examples.formats.halved_chunks import HalvedChunks
from genus.export.layouts import HeadLayout, Layout, Setting
from genus.export.layouts.bert import LAYERS, TEMPLATE, WIDTHS
from genus.export.layouts.conventions import (
    POSITIONS,
    activation,
    architectures,
    masked_head,
    sequence_heads,
    span_head,
    under,
    word_head,
)
from genus.model.activation import Gelu
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding.tables import ProjectedEmbedding
from genus.model.feedforward.mlp import MLP
from genus.model.pooler import Pooler
from genus.model.transformer import Transformer
from genus.objectives.masking.tokens import TokenMasking
from genus.objectives.pretraining.generator import MaskedLMGenerator
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.objectives.pretraining.replaced_token_detection import ReplacedTokenDetection
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import FineTuning, Published
from genus.stages import Stage
from genus.tokens.algorithms.wordpiece import WordPiece

LAYOUT = Layout(
    model_type="electra",
    prefix="electra.",
    template=replace(
        TEMPLATE,
        name="electra/imported",
        published=Published(title="ELECTRA", paper="arXiv:2003.10555", year=2020),
        tokens=WordPiece(vocab_size=30_522, lowercase=True),
        examples=HalvedChunks(),
        model=Transformer(
            layers=12,
            hidden=256,
            attention=MultiHeadAttention(heads=4),
            feedforward=MLP(size=1024),
            embedding=ProjectedEmbedding(size=128, segments=2),
            pooler=Pooler(activation=Gelu()),
        ),
        objectives=(
            MaskedLMGenerator(masked=MaskedLM(masking=TokenMasking(mask=0.85, random=0.0))),
            ReplacedTokenDetection(),
        ),
        # Genus's defaults for further pretraining, as in the layout of BERT.
        optimizer=AdamW(lr=1e-4, eps=1e-6, weight_decay=0.01, clip_norm=1.0),
        stages=(Stage(max_length=128, batch=128, micro_batch=32),),
        finetuning=FineTuning(
            optimizer=AdamW(lr=1e-4, eps=1e-6, weight_decay=0.01, clip_norm=1.0, layer_decay=0.8),
            schedule=Linear(warmup=0.1),
            epochs=3,
            batch=32,
            pooler=Pooler(activation=Gelu()),
        ),
    ),
    settings=(
        *WIDTHS,
        Setting("embedding_size", ("model.embedding.size",)),
        POSITIONS,
        activation("model.feedforward.activation", "replaced_token_detection.activation"),
    ),
    tensors=under("electra.", LAYERS | {"network.embed.projection": ("embeddings_project",)}),
    optional={"pooler": "network.pooler.0"},
    heads={
        "replaced_token_detection": HeadLayout(
            objective=ReplacedTokenDetection(),
            tensors={
                "heads.replaced_token_detection.scores.dense": ("discriminator_predictions.dense",),
                "heads.replaced_token_detection.scores.out": ("discriminator_predictions.dense_prediction",),
            },
            free=frozenset({"weight"}),
        ),
        "masked_lm": masked_head("generator_lm_head", "generator_predictions.dense", "generator_predictions.LayerNorm"),
        **sequence_heads("classifier.out_proj", {"network.pooler.0": ("classifier.dense",)}),
        **word_head(),
        **span_head(),
    },
    architectures=architectures(
        "Electra", {("replaced_token_detection",): "ForPreTraining", ("masked_lm",): "ForMaskedLM"}
    ),
    tied={"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
)

"""Hugging Face's ELECTRA classes, of the discriminator, of the generator, and of fine-tuning.

Both kinds of folder have one `model_type` and one network; what they were trained for is told by their heads.
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
    under,
    word_head,
)
from genus.model.activation import Gelu
from genus.model.attention.multi_head import Softmax
from genus.model.embedding.tables import Projected
from genus.model.feedforward.mlp import Dense
from genus.model.pooler import Pooler
from genus.model.transformer import Encoder
from genus.objectives.masking.tokens import TokenMasking
from genus.objectives.pretraining.generator import Generated
from genus.objectives.pretraining.masked_lm import Masked
from genus.objectives.pretraining.replaced_token_detection import Replaced
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import FineTuning, Published, Stage
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
        model=Encoder(
            layers=12,
            hidden=256,
            attention=Softmax(heads=4),
            feedforward=Dense(size=1024),
            embedding=Projected(size=128, segments=2),
            pooler=Pooler(activation=Gelu()),
        ),
        objectives=(Generated(masked=Masked(masking=TokenMasking(mask=0.85, random=0.0))), Replaced()),
        # Ours, for further pretraining, as in the layout of BERT.
        optimizer=AdamW(lr=1e-4, eps=1e-6, weight_decay=0.01, clip_norm=1.0),
        stages=(Stage(max_length=128, batch=128, micro_batch=32),),
        finetuning=FineTuning(
            optimizer=AdamW(lr=1e-4, eps=1e-6, weight_decay=0.0, clip_norm=1.0, layer_decay=0.8),
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
        activation("model.feedforward.activation", "replaced.activation"),
    ),
    tensors=under("electra.", LAYERS | {"network.embed.projection": ("embeddings_project",)}),
    optional={"pooler": "network.pooler.0"},
    heads={
        "replaced": HeadLayout(
            objective=Replaced(),
            tensors={
                "heads.replaced.scores.dense": ("discriminator_predictions.dense",),
                "heads.replaced.scores.out": ("discriminator_predictions.dense_prediction",),
            },
            free=frozenset({"weight"}),
        ),
        "masked": masked_head("generator_lm_head", "generator_predictions.dense", "generator_predictions.LayerNorm"),
        **sequence_heads("classifier.out_proj", {"network.pooler.0": ("classifier.dense",)}),
        **word_head(),
    },
    architectures=architectures("Electra", {("replaced",): "ForPreTraining", ("masked",): "ForMaskedLM"}),
    tied={"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
)

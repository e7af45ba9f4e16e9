"""Hugging Face's Megatron-BERT classes, from `MegatronBertModel` to `MegatronBertForSequenceClassification`."""

from __future__ import annotations

from genus.examples.ordered_pairs import OrderedPairs
from genus.export.layouts import HeadLayout, Layout, Setting
from genus.export.layouts.bert import (
    CLASSIFY,
    LAYERS,
    POOLER,
    REGRESS,
    WIDTHS,
    read_activation,
    under,
    write_activation,
)
from genus.model.attention.softmax import Softmax
from genus.model.embed import Embedding
from genus.model.encoder import Encoder
from genus.model.feedforward import Dense
from genus.model.heads import Pooler
from genus.model.norm import NoNorm
from genus.model.pre_norm import PreNorm
from genus.objectives.masked import Masked
from genus.objectives.sentence_order import SentenceOrder
from genus.objectives.sequence import Classify, Regress
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, FineTuning, Published, Recipe, Stage
from genus.tokens.wordpiece import WordPiece

OTHERWISE = {"layer_norm_eps", "classifier_dropout"}
"""What BERT writes, and these classes apply in other places, or not at all."""
FREE = frozenset({"dropout"})
"""A classifier here drops out as the layers do."""

LAYOUT = Layout(
    model_type="megatron-bert",
    prefix="bert.",
    template=Recipe(
        name="megatron-bert/imported",
        published=Published(title="Megatron-LM", paper="arXiv:1909.08053", year=2019),
        tokens=WordPiece(vocab_size=29_056, lowercase=False),
        examples=OrderedPairs(),
        model=Encoder(
            layers=24,
            hidden=1024,
            attention=Softmax(heads=16),
            feedforward=Dense(size=4096),
            embedding=Embedding(segments=2, norm=NoNorm()),
            block=PreNorm(),
            pooler=Pooler(),
        ),
        objectives=(Masked(), SentenceOrder()),
        # Ours, for further pretraining, as in the layout of BERT.
        optimizer=AdamW(lr=5e-5, eps=1e-8, weight_decay=0.01, clip_norm=1.0),
        schedule=Linear(warmup=0.05),
        stages=(Stage(max_length=128, batch=256, micro_batch=16),),
        budget=Budget(amount=10_000, unit="steps"),
        finetuning=FineTuning(
            optimizer=AdamW(lr=1e-5, eps=1e-8, weight_decay=0.01, clip_norm=1.0),
            schedule=Linear(warmup=0.065),
            epochs=10,
            batch=128,
        ),
    ),
    settings=(
        *(setting for setting in WIDTHS if setting.key not in OTHERWISE),
        Setting("layer_norm_eps", ("model.norm.eps", "masked.norm.eps")),
        Setting("max_position_embeddings", ("model.embedding.position.length",)),
        Setting("hidden_act", ("model.feedforward.activation", "masked.activation"), write_activation, read_activation),
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
        "masked": HeadLayout(
            objective=Masked(),
            tensors={
                "heads.masked.tokens": ("cls.predictions",),
                "heads.masked.tokens.dense": ("cls.predictions.transform.dense",),
                "heads.masked.tokens.norm": ("cls.predictions.transform.LayerNorm",),
            },
            free=frozenset({"masking"}),
        ),
        "sentence_order": HeadLayout(
            objective=SentenceOrder(),
            tensors={"heads.sentence_order.classes": ("cls.seq_relationship",)},
            needs=POOLER,
        ),
        "classify": HeadLayout(
            objective=Classify(labels=()),
            tensors={"heads.classify.classes": ("classifier",)},
            constants=CLASSIFY,
            free=FREE,
            needs=POOLER,
        ),
        "regress": HeadLayout(
            objective=Regress(),
            tensors={"heads.regress.classes": ("classifier",)},
            constants=REGRESS,
            free=FREE,
            needs=POOLER,
        ),
    },
    architectures={
        frozenset({"masked", "sentence_order"}): "MegatronBertForPreTraining",
        frozenset({"masked"}): "MegatronBertForMaskedLM",
        frozenset({"sentence_order"}): "MegatronBertForNextSentencePrediction",
        frozenset({"classify"}): "MegatronBertForSequenceClassification",
        frozenset({"regress"}): "MegatronBertForSequenceClassification",
        frozenset(): "MegatronBertModel",
    },
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
)

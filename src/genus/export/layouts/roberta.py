"""Hugging Face's RoBERTa classes: `RobertaModel`, `RobertaForMaskedLM`, `RobertaForSequenceClassification`.

CamemBERT's classes differ in their names alone; models that fit both are written as RoBERTa.
"""

from __future__ import annotations

from dataclasses import replace

from genus.examples.formats.sentences import FullSentences
from genus.export.layouts import Layout, Setting
from genus.export.layouts.bert import LAYERS, TEMPLATE, WIDTHS
from genus.export.layouts.conventions import (
    activation,
    architectures,
    masked_head,
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
from genus.model.position.learned import LearnedPosition
from genus.model.transformer import Transformer
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import FineTuning, Published
from genus.tokens.algorithms.byte_bpe import ByteBPE

PAD = 1
"""Padding id; RoBERTa's position ids start at the padding id + 1."""
OFFSET = PAD + 1


def write_rows(length: int) -> int:
    """Return the number of rows of the position embedding for a maximum length."""
    return length + OFFSET


def read_rows(rows: int) -> int:
    """Return the maximum sequence length of a position embedding with `rows` rows."""
    return rows - OFFSET


LAYOUT = Layout(
    model_type="roberta",
    prefix="roberta.",
    pad=PAD,
    template=replace(
        TEMPLATE,
        name="roberta/imported",
        published=Published(title="RoBERTa", paper="arXiv:1907.11692", year=2019),
        tokens=ByteBPE(vocab_size=50_265),
        examples=FullSentences(),
        model=Transformer(
            layers=12,
            hidden=768,
            attention=MultiHeadAttention(heads=12),
            feedforward=MLP(size=3072),
            embedding=Embedding(segments=2, position=LearnedPosition(length=512 - OFFSET, offset=OFFSET)),
            pooler=Pooler(),
        ),
        objectives=(MaskedLM(),),
        # Genus's defaults for further pretraining, as in the layout of BERT.
        optimizer=AdamW(lr=5e-5, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01, clip_norm=1.0),
        finetuning=FineTuning(
            optimizer=AdamW(lr=2e-5, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1, decayed="all", clip_norm=None),
            schedule=Linear(warmup=0.06),
            epochs=10,
            batch=32,
            dropout=0.0,
        ),
    ),
    settings=(
        *WIDTHS,
        Setting("max_position_embeddings", ("model.embedding.position.length",), write_rows, read_rows),
        activation("model.feedforward.activation"),
    ),
    tensors=under("roberta.", LAYERS),
    optional={"pooler": "network.pooler.0"},
    heads={
        "masked_lm": masked_head("lm_head", "lm_head.dense", "lm_head.layer_norm"),
        **sequence_heads("classifier.out_proj", {"network.pooler.0": ("classifier.dense",)}),
        **word_head(),
        **span_head(),
    },
    architectures=architectures("Roberta", {("masked_lm",): "ForMaskedLM"}),
    tied=tied_decoder("lm_head", "roberta."),
)

CAMEMBERT = replace(
    LAYOUT,
    model_type="camembert",
    template=replace(LAYOUT.template, name="camembert/imported"),
    architectures=architectures("Camembert", {("masked_lm",): "ForMaskedLM"}),
)

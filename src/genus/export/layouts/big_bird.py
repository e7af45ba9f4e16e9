"""Hugging Face's BigBird classes: `BigBirdModel`, `BigBirdForMaskedLM`, `BigBirdForSequenceClassification`, ...

With `attention_type` `original_full`, attention is full at any length (`FULL`). With `block_sparse`, it is block-sparse
attention in the internal construction only, with blocks as long as the global tokens at the front. Up to 5 + 2r blocks
attention is full; beyond, the classes draw random blocks in their own way in training, and in evaluation attend to the
first block r more times. `random_focus` and `random_seed` are keys of genus, for choices that the classes do not have.
Their dropout comes before the layer normalization of the embeddings, which distinguishes `original_full` from BERT.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from genus.examples.formats.segment_pairs import SegmentPairs
from genus.export.layouts import Layout, ReferenceOptions, Setting
from genus.export.layouts.bert import LAYERS, MASKED, TEMPLATE, WIDTHS
from genus.export.layouts.conventions import (
    POSITIONS,
    activation,
    architectures,
    masked_head,
    only,
    pooled_head,
    sequence_heads,
    tied_decoder,
    under,
    without,
    word_head,
)
from genus.model.activation import Gelu
from genus.model.attention.block_sparse.layer import BlockSparseAttention
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding.tables import EarlyDropoutEmbedding
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead, Transform
from genus.model.pooler import Pooler
from genus.model.position.learned import LearnedPosition
from genus.model.transformer import Transformer
from genus.objectives.pretraining.labels import SequenceLabels
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import FineTuning, Published
from genus.stages import Stage
from genus.tokens.algorithms.unigram import Unigram

if TYPE_CHECKING:
    from genus.model.attention import Attention
    from genus.part import Json

GELU = Gelu(approximate="tanh")
ENCODER = Transformer(
    layers=12,
    hidden=768,
    attention=BlockSparseAttention(
        heads=12,
        block_size=64,
        num_global_tokens=64,
        num_global_tail_blocks=1,
        window_blocks=3,
        random_blocks=3,
        random_block_limit=16,
    ),
    feedforward=MLP(size=3072, activation=GELU),
    embedding=EarlyDropoutEmbedding(segments=2, position=LearnedPosition(length=4096)),
    pooler=Pooler(),
)


def seen_in_full(config: Json) -> int:
    """Return the length of four blocks, up to which attention is full in both genus and transformers."""
    return 4 * int(config["block_size"])


def write_focus(focus: int | None) -> int:
    """Return the number of blocks among which random blocks are drawn, 0 for all."""
    return focus or 0


def read_focus(focus: int) -> int | None:
    """Return the number of blocks among which random blocks are drawn, None for all."""
    return focus or None


def attention_type(kind: type[Attention], name: str) -> Setting:
    """Return the setting of `attention_type`, of which each layout has one value."""
    written, read = {kind.__name__: name}, {name: kind.__name__}
    return Setting("attention_type", ("model.attention.kind",), written.__getitem__, read.__getitem__)


LAYOUT = Layout(
    model_type="big_bird",
    prefix="bert.",
    template=replace(
        TEMPLATE,
        name="bigbird/imported",
        published=Published(title="Big Bird", paper="arXiv:2007.14062", year=2020),
        tokens=Unigram(vocab_size=50_358, lowercase=False, plain=False),
        examples=SegmentPairs(short=0.1, random_next=0.5),
        model=ENCODER,
        objectives=(
            MaskedLM(output=LMHead(transform=Transform(activation=GELU))),
            SequenceLabels(label="next_sentence"),
        ),
        stages=(Stage(max_length=4096, batch=16, micro_batch=1),),
        finetuning=FineTuning(
            optimizer=AdamW(lr=3e-5, eps=1e-6, weight_decay=0.01, clip_norm=1.0),
            schedule=Linear(warmup=0.1),
            epochs=10,
            batch=64,
            max_length=4096,
            pooler=Pooler(activation=GELU),
        ),
    ),
    settings=(
        *WIDTHS,
        POSITIONS,
        activation("model.feedforward.activation", "masked_lm.output.transform.activation"),
        Setting("block_size", ("model.attention.block_size", "model.attention.num_global_tokens")),
        Setting("num_random_blocks", ("model.attention.random_blocks",)),
        Setting("random_focus", ("model.attention.random_block_limit",), write_focus, read_focus),
        Setting("random_seed", ("model.attention.seed",)),
        attention_type(BlockSparseAttention, "block_sparse"),
        Setting("use_bias", (), read=only(True)),
        Setting("rescale_embeddings", (), read=only(False)),
    ),
    tensors=under("bert.", LAYERS | {"network.pooler.0": ("pooler",)}),
    optional={"pooler": "network.pooler.0"},
    heads={
        "masked_lm": masked_head(*MASKED, MaskedLM(output=LMHead(transform=Transform(activation=GELU)))),
        "next_sentence": pooled_head(SequenceLabels(label="next_sentence"), "cls.seq_relationship"),
        # The class has a dense layer before its output layer, with the network's activation.
        **sequence_heads(
            "classifier.out_proj",
            {"network.pooler.0": ("classifier.dense",)},
            settings=(activation("model.pooler.activation"),),
        ),
        **word_head(),
    },
    architectures=architectures(
        "BigBird",
        {("masked_lm", "next_sentence"): "ForPreTraining", ("masked_lm",): "ForMaskedLM"},
        missing=frozenset({"span_extraction"}),  # the class has a feed-forward network of its own
    ),
    witness=ReferenceOptions(max_equal_length=seen_in_full),
    tied=tied_decoder("cls.predictions", "bert."),
)

FULL = replace(
    LAYOUT,
    template=replace(
        LAYOUT.template,
        name="bigbird/imported-full",
        model=replace(ENCODER, attention=MultiHeadAttention(heads=12)),
    ),
    settings=(
        *without(LAYOUT.settings, "block_size", "num_random_blocks", "random_focus", "random_seed", "attention_type"),
        attention_type(MultiHeadAttention, "original_full"),
    ),
    witness=ReferenceOptions(),
    variant={"attention_type": "original_full"},
)

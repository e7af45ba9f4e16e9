"""Hugging Face's BART classes: `BartForConditionalGeneration`, `BartForSequenceClassification` and `BartModel`.

The decoder begins with the end token, and the first token that it writes is the one that begins a text
(`forced_bos_token_id`), which here is given with it. `final_logits_bias` is no parameter of theirs; it is 0 in what
they train.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from genus.examples.formats.sentences import DocSentences
from genus.export.layouts import HeadLayout, Layout, Setting
from genus.export.layouts.bert import TEMPLATE as BERT
from genus.export.layouts.conventions import (
    CLASSIFIER_DROPOUT,
    LABELS,
    SEQUENCE_HEADS,
    activation,
    both_sides,
    only,
    sequence_heads,
    under,
)
from genus.export.layouts.maps import Map, Unflatten
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding import Embedding
from genus.model.encoder_decoder import mirrored
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead
from genus.model.initialization import Normal
from genus.model.norm import LayerNorm
from genus.model.pooler import Pooler
from genus.model.position.learned import LearnedPosition
from genus.model.transformer import Transformer
from genus.objectives.pretraining.denoising_autoencoder import DenoisingAutoencoder
from genus.objectives.pretraining.masked_seq_to_seq import MaskedSeqToSeq
from genus.objectives.pretraining.text_to_text import Denoising, Deshuffling, PrefixLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import FineTuning, Published
from genus.stages import Stage
from genus.tokens.algorithms.byte_bpe import BART, ByteBPE

if TYPE_CHECKING:
    from genus.objectives import Objective

OUTPUT = LMHead(bias="constant")
NORM = LayerNorm(eps=1e-5)
"""PyTorch's default, which the classes do not change."""
PLACES = LearnedPosition(length=1024, offset=2)
"""Two rows of the table are unused (BartLearnedPositionalEmbedding)."""


def attentions(side: str, choice: str) -> tuple[str, ...]:
    """Return the paths of a choice of a side's attention, cross-attention too."""
    crossing = (f"model.decoder.cross.{choice}",) if side == "decoder" else ()
    return (f"model.{side}.attention.{choice}", *crossing)


def sizes(side: str) -> tuple[Setting, ...]:
    """Return the settings of the sizes of a side."""
    return (
        Setting(f"{side}_layers", (f"model.{side}.layers",)),
        Setting(f"{side}_attention_heads", attentions(side, "heads")),
        Setting(f"{side}_ffn_dim", (f"model.{side}.feedforward.size",)),
    )


def layers(side: str) -> dict[str, tuple[str, ...]]:
    """Return the rows of a side."""
    theirs, ours = f"{side}.layers.{{}}", f"network.{side}.layers.{{}}"
    names = {"attention": ("self_attn", "self_attn_layer_norm")}
    if side == "decoder":
        names["cross"] = ("encoder_attn", "encoder_attn_layer_norm")
    rows: dict[str, tuple[str, ...]] = {}
    for name, (module, norm) in names.items():
        for one in ("query", "key", "value"):
            rows[f"{ours}.{name}.{one}"] = (f"{theirs}.{module}.{one[0]}_proj",)
        rows[f"{ours}.{name}.out"] = (f"{theirs}.{module}.out_proj",)
        rows[f"{ours}.{name}_norm"] = (f"{theirs}.{norm}",)
    return rows | {
        f"{ours}.feedforward.inner": (f"{theirs}.fc1",),
        f"{ours}.feedforward.out": (f"{theirs}.fc2",),
        f"{ours}.feedforward_norm": (f"{theirs}.final_layer_norm",),
        f"network.{side}.embed.positions.table": (f"{side}.embed_positions",),
        f"network.{side}.embed.norm": (f"{side}.layernorm_embedding",),
    }


def heads() -> dict[str, HeadLayout]:
    """Return the heads: one that classifies, and objectives that predict the decoder's next token.

    Of the latter the first is assumed in reading.
    """
    classes = sequence_heads(
        "classification_head.out_proj",
        settings=(CLASSIFIER_DROPOUT, LABELS),
        needs=frozenset({"decoder.pooler"}),
        repeated=True,
    )

    def layout(objective: Objective, *free: str) -> HeadLayout:
        bias = f"heads.{objective.name}.lm_head.bias"
        assumed = objective.name == "denoising_autoencoder"  # no folder of theirs tells
        return HeadLayout(
            objective=objective,
            tensors={bias: Map((bias,), ("final_logits_bias",), Unflatten(1))},  # (V,) to (1, V)
            free=frozenset(free),
            spare=frozenset({"final_logits_bias"}),
            tells=lambda config, tensors: assumed,
        )

    found = (
        layout(DenoisingAutoencoder(output=OUTPUT), "corruptions"),
        layout(Denoising(output=OUTPUT), "noise", "inputs", "outputs", "random"),
        layout(PrefixLM(output=OUTPUT)),
        layout(Deshuffling(output=OUTPUT)),
        layout(MaskedSeqToSeq(output=OUTPUT), "masking"),
    )
    return {**classes, **{head.objective.name: head for head in found}}


def architectures() -> dict[frozenset[str], str]:
    """Return the classes by their heads."""
    named = {name: "BartForConditionalGeneration" for name in heads()}
    named |= dict.fromkeys(SEQUENCE_HEADS, "BartForSequenceClassification")
    return {**{frozenset({name}): kind for name, kind in named.items()}, frozenset(): "BartModel"}


MODEL = mirrored(
    Transformer(
        layers=12,
        hidden=1024,
        attention=MultiHeadAttention(heads=16, dropout=0.0),
        feedforward=MLP(size=4096),
        embedding=Embedding(segments=0, position=PLACES, norm=NORM),
        norm=NORM,
        initialization=Normal(std=0.02),
    ),
    PLACES,
).pooled(Pooler())

LAYOUT = Layout(
    model_type="bart",
    prefix="model.",
    segmented=False,
    roles={
        "pad_token_id": "pad",
        "bos_token_id": "bos",
        "eos_token_id": "eos",
        "decoder_start_token_id": "eos",
        "forced_bos_token_id": "bos",
        "forced_eos_token_id": "eos",
    },
    template=replace(
        BERT,
        name="bart/imported",
        published=Published(title="BART", paper="arXiv:1910.13461", year=2019),
        tokens=ByteBPE(vocab_size=50_265, special_tokens=BART),
        examples=DocSentences(),
        model=MODEL,
        objectives=(DenoisingAutoencoder(output=OUTPUT),),
        # Genus's defaults for further pretraining, as in the layout of RoBERTa.
        optimizer=AdamW(lr=5e-5, weight_decay=0.01, decayed="all", clip_norm=0.1),
        stages=(Stage(max_length=513, source_length=513, batch=256, micro_batch=16),),
        finetuning=FineTuning(
            optimizer=AdamW(lr=1e-5, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01, decayed="all", clip_norm=None),
            schedule=Linear(warmup=0.06),
            epochs=10,
            batch=32,
            dropout=0.0,
        ),
    ),
    settings=(
        Setting("d_model", both_sides("hidden")),
        *sizes("encoder"),
        *sizes("decoder"),
        activation(*both_sides("feedforward.activation"), key="activation_function"),
        Setting("max_position_embeddings", both_sides("embedding.position.length")),
        Setting("dropout", both_sides("dropout", "embedding.dropout")),
        Setting("attention_dropout", (*attentions("encoder", "dropout"), *attentions("decoder", "dropout"))),
        Setting("activation_dropout", both_sides("feedforward.dropout")),
        Setting("init_std", both_sides("initialization.std")),
        Setting("scale_embedding", (), read=only(False)),
        Setting("normalize_before", (), read=only(False)),
        Setting("add_final_layer_norm", (), read=only(False)),
        Setting("normalize_embedding", (), read=only(True)),
        Setting("static_position_embeddings", (), read=only(False)),
        Setting("tie_word_embeddings", (), read=only(True)),
    ),
    tensors={
        **under("model.", {"network.encoder.embed.tokens": ("shared",), **layers("encoder"), **layers("decoder")}),
        "network.decoder.pooler.0": ("classification_head.dense",),
    },
    optional={"decoder.pooler": "network.decoder.pooler.0"},
    heads=heads(),
    architectures=architectures(),
    tied={
        "model.encoder.embed_tokens.weight": "model.shared.weight",
        "model.decoder.embed_tokens.weight": "model.shared.weight",
        "lm_head.weight": "model.shared.weight",
    },
)

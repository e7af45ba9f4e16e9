"""Hugging Face's T5 classes: `T5ForConditionalGeneration`, `T5ForSequenceClassification` and `T5Model`.

They are of T5, version 1.1 and ByT5.

`tie_word_embeddings` of a configuration says whether the output matrix is the token embedding, whose inputs are then
divided by √E; in version 1.1 neither is so. `feed_forward_proj` says whether units are gated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from genus.examples.formats.sentences import FullSentences
from genus.export.layouts import Derived, HeadLayout, Layout, Setting
from genus.export.layouts.bert import TEMPLATE as BERT
from genus.export.layouts.conventions import (
    CLASSIFIER_DROPOUT,
    LABELS,
    SEQUENCE_HEADS,
    both_sides,
    only,
    read_activation,
    sequence_heads,
    without,
    write_activation,
)
from genus.model.activation import Gelu, Relu
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import UnscaledPreNorm
from genus.model.embedding import Embedding
from genus.model.encoder_decoder import mirrored
from genus.model.feedforward.gated import GatedMLP
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead
from genus.model.initialization import FanIn
from genus.model.norm import Identity, RMSNorm
from genus.model.pooler import Pooler
from genus.model.position.bias import RelativeBuckets
from genus.model.transformer import Transformer
from genus.objectives.pretraining.text_to_text import Denoising, Deshuffling, PrefixLM
from genus.optim.adafactor import Adafactor
from genus.optim.schedule import Constant
from genus.recipe import Published
from genus.stages import Stage
from genus.tokens.algorithms.unigram import T5, Unigram

if TYPE_CHECKING:
    from genus.objectives import Objective
    from genus.part import Json

TIED, APART = LMHead(bias="none", scaled=True), LMHead(tied=False, bias="none")
"""Output layers of the first version and of version 1.1."""
CLASSES, WITHIN = "classification_head", "transformer."
"""The head that classifies, which has a pooler of its own, and the prefix of the network beside it."""


def attentions(choice: str) -> tuple[str, ...]:
    """Return the paths of a choice of all attention, cross-attention too."""
    return (*both_sides(f"attention.{choice}"), f"model.decoder.cross.{choice}")


def derived(config: Json) -> Json:
    """Return a configuration with the number of decoder layers, as many as the encoder's where none is given.

    Since version 5, transformers writes that the output matrix is the embedding whether it is or not, and beside it
    whether its inputs are scaled (`scale_decoder_outputs`), which goes together with that.
    """
    told = dict(config)
    if (scaled := told.get("scale_decoder_outputs")) is not None:
        told["tie_word_embeddings"] = scaled
    if told.get("num_decoder_layers") is None and "num_layers" in told:
        told["num_decoder_layers"] = told["num_layers"]
    return told


def ungated(value: Json) -> str:
    """Return `feed_forward_proj` of units without a gate."""
    return write_activation(value)


def gate(value: Json) -> str:
    """Return `feed_forward_proj` of gated units; "gated-gelu" is the tanh form of GELU."""
    name = write_activation(value)
    return "gated-" + {"gelu_new": "gelu"}.get(name, name)


def read_gate(name: str) -> Json:
    """Return the activation of a gate as JSON; raise a `LookupError` if units have none."""
    kind, _, function = name.partition("-")
    if kind != "gated":
        raise LookupError(name)
    return read_activation({"gelu": "gelu_new"}.get(function, function))


def layers(side: str, *, gated: bool) -> dict[str, tuple[str, ...]]:
    """Return the rows of a stack; the feed-forward network is the last of the sub-layers of a block."""
    theirs, ours = f"{side}.block.{{}}.layer", f"network.{side}.layers.{{}}"
    last = {"encoder": 1, "decoder": 2}[side]
    rows: dict[str, tuple[str, ...]] = {}
    for number, (name, module) in enumerate([("attention", "SelfAttention"), ("cross", "EncDecAttention")][:last]):
        for one, short in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "o")):
            rows[f"{ours}.{name}.{one}"] = (f"{theirs}.{number}.{module}.{short}",)
        rows[f"{ours}.{name}_norm"] = (f"{theirs}.{number}.layer_norm",)
    maps = {"gate": "wi_0", "inner": "wi_1", "out": "wo"} if gated else {"inner": "wi", "out": "wo"}
    for one, short in maps.items():
        rows[f"{ours}.feedforward.{one}"] = (f"{theirs}.{last}.DenseReluDense.{short}",)
    rows[f"{ours}.feedforward_norm"] = (f"{theirs}.{last}.layer_norm",)
    rows[f"network.{side}.norm.0"] = (f"{side}.final_layer_norm",)
    bias = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias"
    return rows | {f"network.{side}.position_bias.table": (bias,)}


def tensors(*, gated: bool) -> dict[str, tuple[str, ...]]:
    """Return the rows of the network."""
    ends = {"network.encoder.embed.tokens": ("shared",), "network.decoder.pooler.0": (f"{CLASSES}.dense",)}
    return ends | layers("encoder", gated=gated) | layers("decoder", gated=gated)


def heads(output: LMHead, *, gated: bool) -> dict[str, HeadLayout]:
    """Return the heads: one that classifies, and objectives that predict the decoder's next token.

    Of the latter the first is assumed in reading. The class that classifies has the network under another name.
    """
    network = {ours: theirs for ours, theirs in tensors(gated=gated).items() if not ours.endswith("pooler.0")}
    rows: dict[str, tuple[str, ...]] = {} if output.tied else {"lm_head": ("lm_head",)}

    def layout(objective: Objective, *free: str) -> HeadLayout:
        own = {f"heads.{objective.name}.{ours}": theirs for ours, theirs in rows.items()}
        assumed = objective.name == "denoising"  # which of them a model was trained with, no folder of theirs tells
        return HeadLayout(objective=objective, tensors=own, free=frozenset(free), tells=lambda config, tensors: assumed)

    return {
        **sequence_heads(
            f"{CLASSES}.out_proj",
            {ours: tuple(f"{WITHIN}{name}" for name in theirs) for ours, theirs in network.items()},
            settings=(CLASSIFIER_DROPOUT, LABELS),
            needs=frozenset({"decoder.pooler"}),
            repeated=True,
        ),
        "denoising": layout(Denoising(output=output), "noise", "inputs", "outputs", "random"),
        "prefix_lm": layout(PrefixLM(output=output)),
        "deshuffling": layout(Deshuffling(output=output)),
    }


ENCODER = Transformer(
    layers=6,
    hidden=512,
    attention=MultiHeadAttention(heads=8, size=64, bias=False, scale=1.0),
    feedforward=MLP(size=2048, activation=Relu(), bias=False, dropout=0.1),
    embedding=Embedding(segments=0, position=RelativeBuckets(), norm=Identity()),
    norm=RMSNorm(),
    block=UnscaledPreNorm(),
    initialization=FanIn(),
)
MODEL = mirrored(ENCODER, RelativeBuckets(both_directions=False)).pooled(Pooler())
GEGLU = GatedMLP(size=2048, activation=Gelu(approximate="tanh"), dropout=0.1)
GATED = mirrored(replace(ENCODER, feedforward=GEGLU), RelativeBuckets(both_directions=False)).pooled(Pooler())

PLAIN = Layout(
    model_type="t5",
    prefix="",
    segmented=False,
    roles={"pad_token_id": "pad", "eos_token_id": "eos", "decoder_start_token_id": "pad"},
    template=replace(
        BERT,
        name="t5/imported",
        published=Published(title="T5", paper="arXiv:1910.10683", year=2019),
        tokens=Unigram(vocab_size=32_100, lowercase=False, plain=False, special_tokens=T5),
        examples=FullSentences(),
        model=MODEL,
        objectives=(Denoising(output=TIED),),
        optimizer=Adafactor(lr=0.001, relative=False),
        schedule=Constant(),
        stages=(Stage(max_length=115, source_length=512, batch=128, micro_batch=16),),
        finetuning=BERT.finetuning,
    ),
    settings=(
        Setting("d_model", both_sides("hidden")),
        Setting("d_kv", attentions("size")),
        Setting("d_ff", both_sides("feedforward.size")),
        Setting("num_layers", ("model.encoder.layers",)),
        Setting("num_decoder_layers", ("model.decoder.layers",)),
        Setting("num_heads", attentions("heads")),
        Setting("relative_attention_num_buckets", both_sides("embedding.position.buckets")),
        Setting("relative_attention_max_distance", both_sides("embedding.position.longest")),
        Setting(
            "dropout_rate", (*both_sides("dropout", "embedding.dropout", "feedforward.dropout"), *attentions("dropout"))
        ),
        Setting("layer_norm_epsilon", both_sides("norm.eps")),
        Setting("feed_forward_proj", both_sides("feedforward.activation"), ungated, read_activation),
        Setting("tie_word_embeddings", (), read=only(True)),
    ),
    derived=Derived(read=derived),
    tensors=tensors(gated=False),
    optional={"decoder.pooler": "network.decoder.pooler.0"},
    heads=heads(TIED, gated=False),
    architectures={
        frozenset({"denoising"}): "T5ForConditionalGeneration",
        frozenset({"prefix_lm"}): "T5ForConditionalGeneration",
        frozenset({"deshuffling"}): "T5ForConditionalGeneration",
        **{frozenset({head}): "T5ForSequenceClassification" for head in SEQUENCE_HEADS},
        frozenset(): "T5Model",
    },
    tied={
        f"{prefix}{copy}.weight": f"{prefix}shared.weight"
        for prefix in ("", WITHIN)
        for copy in ("encoder.embed_tokens", "decoder.embed_tokens", "lm_head")
    },
)

LAYOUT = replace(
    PLAIN,
    variant={"feed_forward_proj": "gated-gelu"},
    template=replace(PLAIN.template, model=GATED, objectives=(Denoising(output=APART),)),
    settings=(
        *without(PLAIN.settings, "tie_word_embeddings", "feed_forward_proj"),
        Setting("feed_forward_proj", both_sides("feedforward.activation"), gate, read_gate),
        Setting("tie_word_embeddings", (), read=only(False)),
    ),
    tensors=tensors(gated=True),
    heads={
        name: replace(head, constants={**head.constants, "tie_word_embeddings": False})
        for name, head in heads(APART, gated=True).items()
    },
    tied={copy: original for copy, original in PLAIN.tied.items() if "lm_head" not in copy},
)
"""Version 1.1: gated units and an output matrix of its own."""

"""Hugging Face's ModernBERT classes (Warner et al. 2024): `ModernBertModel`, `ModernBertForMaskedLM`, and others.

Of the models they can hold: with global attention in all layers, and with biases in the norms and in the heads, as
`genus` has them. Folders of other ModernBERTs are refused by the key that says so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from genus.examples.formats.sentences import FullSentences
from genus.export.layouts import ROLES, Layout, Setting
from genus.export.layouts.bert import TEMPLATE
from genus.export.layouts.conventions import (
    LABELS,
    SEQUENCE_DROPOUT,
    activation,
    architectures,
    masked_head,
    only,
    sequence_heads,
    under,
)
from genus.export.layouts.maps import Map, Stack
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import PreNorm
from genus.model.embedding import Embedding
from genus.model.feedforward.gated import GatedMLP
from genus.model.norm import LayerNorm
from genus.model.pooler import NormPooler
from genus.model.position.rotary import Rotary
from genus.model.transformer import Transformer
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.recipe import Published

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.part import Json

GLOBAL, LOCAL = "full_attention", "sliding_attention"
"""The two types of layers in `layer_types`."""


def write_layers(layers: int) -> list[str]:
    """Return the types of that many layers with global attention."""
    return [GLOBAL] * layers


def read_layers(types: list[str]) -> int:
    """Return the number of layers; raise a `LookupError` if a layer has local attention."""
    if {*types} != {GLOBAL}:
        raise LookupError(LOCAL)
    return len(types)


def write_rotary(base: float) -> Json:
    """Return `rope_parameters` with the base of the rotary positions, of both types of layers."""
    return {kind: {"rope_type": "default", "rope_theta": base} for kind in (GLOBAL, LOCAL)}


def read_rotary(parameters: Json) -> float:
    """Return the base of the rotary positions in layers with global attention."""
    known = parameters[GLOBAL]
    if known.get("rope_type", "default") != "default":
        raise LookupError(known["rope_type"])
    return float(known["rope_theta"])


def fixed(key: str, value: Any, path: str) -> Setting:
    """Return the setting of a key that has one value in all models of this layout, given a part at that path."""
    expect: Callable[[Any], Any] = only(value)

    def read(found: Any) -> Json:
        """Return no change to the part."""
        expect(found)
        return {}

    return Setting(key, (path,), lambda part: value, read)


NORM = LayerNorm(eps=1e-5)

LAYOUT = Layout(
    model_type="modernbert",
    prefix="model.",
    segmented=False,
    roles={**ROLES, "cls_token_id": "cls", "sep_token_id": "sep"},
    template=replace(
        TEMPLATE,
        name="modernbert/imported",
        published=Published(title="ModernBERT", paper="arXiv:2412.13663", year=2024),
        examples=FullSentences(),
        model=Transformer(
            layers=22,
            hidden=768,
            attention=MultiHeadAttention(heads=12, bias=False, dropout=0.0),
            feedforward=GatedMLP(size=1152),
            embedding=Embedding(segments=0, position=Rotary(base=160_000.0), norm=NORM, dropout=0.0),
            norm=NORM,
            block=PreNorm(first_norm=False),
            pooler=NormPooler(norm=NORM),
            dropout=0.0,
        ),
        objectives=(MaskedLM(),),
        finetuning=replace(TEMPLATE.finetuning, pooler=NormPooler(norm=NORM)),
    ),
    settings=(
        Setting("num_hidden_layers", ("model.layers",)),
        Setting("layer_types", ("model.layers",), write_layers, read_layers),
        Setting("hidden_size", ("model.hidden",)),
        Setting("num_attention_heads", ("model.attention.heads",)),
        Setting("intermediate_size", ("model.feedforward.size",)),
        Setting("attention_bias", ("model.attention.bias",)),
        Setting("mlp_bias", ("model.feedforward.bias",)),
        Setting("rope_parameters", ("model.embedding.position.base",), write_rotary, read_rotary),
        Setting("embedding_dropout", ("model.embedding.dropout",)),
        # Of attention and its output, and within the feed-forward network: other places than ours, but for 0.
        Setting("attention_dropout", ("model.attention.dropout", "model.dropout"), only(0.0), only(0.0)),
        Setting("mlp_dropout", ("model.dropout",), only(0.0), only(0.0)),
        Setting("classifier_dropout", SEQUENCE_DROPOUT),
        Setting(
            "norm_eps",
            (
                "model.norm.eps",
                "model.embedding.norm.eps",
                "model.pooler.norm.eps",
                "masked_lm.output.transform.norm.eps",
            ),
        ),
        Setting("initializer_range", ("model.initialization.std",)),
        activation("model.feedforward.activation", key="hidden_activation"),
        activation("masked_lm.output.transform.activation", "model.pooler.activation", key="classifier_activation"),
        fixed("global_attn_every_n_layers", 1, "model.norm"),  # of configurations without `layer_types`
        fixed("norm_bias", True, "model.norm"),
        fixed("classifier_bias", True, "model.norm"),
        fixed("classifier_pooling", "cls", "model.norm"),
        fixed("decoder_bias", True, "model.norm"),
        LABELS,
    ),
    tensors=under(
        "model.",
        {
            "network.embed.tokens": ("embeddings.tok_embeddings",),
            "network.embed.norm": ("embeddings.norm",),
            "network.layers.{}.attention.query": Map(
                tuple(f"network.layers.{{}}.attention.{one}" for one in ("query", "key", "value")),
                ("layers.{}.attn.Wqkv",),
                Stack(),
            ),
            "network.layers.{}.attention.out": ("layers.{}.attn.Wo",),
            "network.layers.{}.attention_norm": ("layers.{}.attn_norm",),
            "network.layers.{}.feedforward.gate": Map(
                tuple(f"network.layers.{{}}.feedforward.{one}" for one in ("gate", "inner")),
                ("layers.{}.mlp.Wi",),
                Stack((1, 1)),
            ),
            "network.layers.{}.feedforward.out": ("layers.{}.mlp.Wo",),
            "network.layers.{}.feedforward_norm": ("layers.{}.mlp_norm",),
            "network.norm": ("final_norm",),
            "network.pooler.0": ("pooler.dense",),  # in their classes it is in the head
            "network.pooler.2": ("pooler.norm",),
        },
    ),
    optional={"pooler": "network.pooler.0"},
    heads={
        "masked_lm": replace(masked_head("decoder", "head.dense", "head.norm"), lacks=frozenset({"pooler"})),
        **sequence_heads("classifier", {"network.pooler.0": ("head.dense",), "network.pooler.2": ("head.norm",)}),
    },
    architectures=architectures(
        "ModernBert",
        {("masked_lm",): "ForMaskedLM"},
        missing=frozenset({"token_classification", "span_extraction"}),  # these classes have a dense layer and a norm
    ),
    tied={"decoder.weight": "model.embeddings.tok_embeddings.weight"},
)

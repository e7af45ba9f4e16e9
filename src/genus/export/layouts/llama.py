"""Hugging Face's Llama classes: `LlamaModel`, `LlamaForCausalLM`, `LlamaFor{Sequence,Token}Classification`, and others.

Rotary positions are of the usual form, or rescaled as Llama 3.1's; folders of others are refused by the key that says
so. The output matrix is one of its own, or the token embedding (`tie_word_embeddings`), which is a layout of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from genus.export.layouts import Derived, HeadLayout, Layout, Setting
from genus.export.layouts.conventions import (
    LABELS,
    SEQUENCE_HEADS,
    activation,
    causal_head,
    last_token_heads,
    only,
    span_head,
    under,
    without,
)
from genus.export.layouts.gpt2 import TEMPLATE
from genus.model.activation import Silu
from genus.model.attention.masks import Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import PreNorm
from genus.model.embedding import Embedding
from genus.model.feedforward.gated import GatedMLP
from genus.model.head.lm_head import LMHead
from genus.model.norm import Identity, RMSNorm
from genus.model.position.rotary import RescaledRotary, Rotary
from genus.model.transformer import Transformer
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.objectives.supervised.token import TokenClassification
from genus.recipe import Published
from genus.stages import Stage
from genus.tokens.algorithms.byte_fallback_bpe import ByteFallbackBPE

if TYPE_CHECKING:
    from genus.part import Json

OUTPUT, TIED = LMHead(tied=False, bias="none"), LMHead(bias="none")
"""An output matrix of its own, or the token embedding; without a bias."""
LLAMA3 = {
    "factor": "factor",
    "low_freq_factor": "low",
    "high_freq_factor": "high",
    "original_max_position_embeddings": "old_length",
}
"""Keys of the rope type "llama3", and the choices of `RescaledRotary`."""


def write_rotary(position: Json) -> Json:
    """Return `rope_parameters` for rotary positions as JSON."""
    told = {"rope_type": "default", "rope_theta": position["base"]}
    if position["kind"] != "RescaledRotary":
        return told
    return told | {"rope_type": "llama3"} | {key: position[choice] for key, choice in LLAMA3.items()}


def read_rotary(parameters: Json) -> Json:
    """Return the rotary positions as JSON; raise a `LookupError` if they are rescaled in another way."""
    kind, base = parameters.get("rope_type", "default"), float(parameters["rope_theta"])
    if kind == "default":
        return Rotary(base=base).to_json()
    if kind != "llama3":
        raise LookupError(kind)
    given = {choice: parameters[key] for key, choice in LLAMA3.items()}
    return RescaledRotary(base=base, **given).to_json()


def derived(config: Json) -> Json:
    """Return a configuration in which what is equal to its default is null, and positions are named as since 2025."""
    told, heads = dict(config), config.get("num_attention_heads")
    if told.get("num_key_value_heads") == heads:
        told["num_key_value_heads"] = None
    if heads and told.get("head_dim") == told.get("hidden_size", 0) // heads:
        told["head_dim"] = None
    if told.get("rope_parameters") is None and "rope_theta" in told:
        scaling = told.get("rope_scaling") or {}
        told["rope_parameters"] = {"rope_theta": told["rope_theta"]} | scaling
        told["rope_parameters"]["rope_type"] = scaling.get("rope_type", scaling.get("type", "default"))
    return told


NETWORK = {
    "network.embed.tokens": ("embed_tokens",),
    "network.layers.{}.attention.query": ("layers.{}.self_attn.q_proj",),
    "network.layers.{}.attention.key": ("layers.{}.self_attn.k_proj",),
    "network.layers.{}.attention.value": ("layers.{}.self_attn.v_proj",),
    "network.layers.{}.attention.out": ("layers.{}.self_attn.o_proj",),
    "network.layers.{}.attention_norm": ("layers.{}.input_layernorm",),
    "network.layers.{}.feedforward.gate": ("layers.{}.mlp.gate_proj",),
    "network.layers.{}.feedforward.inner": ("layers.{}.mlp.up_proj",),
    "network.layers.{}.feedforward.out": ("layers.{}.mlp.down_proj",),
    "network.layers.{}.feedforward_norm": ("layers.{}.post_attention_layernorm",),
    "network.norm": ("norm",),
}
"""Rows of the network's tensors, without the prefix of Hugging Face names, which is another one in one class."""

LAYOUT = Layout(
    model_type="llama",
    prefix="model.",
    segmented=False,
    template=replace(
        TEMPLATE,
        name="llama/imported",
        published=Published(title="LLaMA", paper="arXiv:2302.13971", year=2023),
        tokens=ByteFallbackBPE(vocab_size=32_000),
        model=Transformer(
            layers=32,
            hidden=4096,
            attention=MultiHeadAttention(heads=32, bias=False, dropout=0.0, mask=Causal()),
            feedforward=GatedMLP(size=11_008, activation=Silu()),
            embedding=Embedding(segments=0, position=Rotary(), norm=Identity(), dropout=0.0),
            norm=RMSNorm(),
            block=PreNorm(),
            dropout=0.0,
        ),
        objectives=(CausalLM(output=OUTPUT),),
        stages=(Stage(max_length=2048, batch=32, micro_batch=1),),
    ),
    settings=(
        Setting("num_hidden_layers", ("model.layers",)),
        Setting("hidden_size", ("model.hidden",)),
        Setting("num_attention_heads", ("model.attention.heads",)),
        Setting("num_key_value_heads", ("model.attention.key_heads",)),
        Setting("head_dim", ("model.attention.size",)),
        Setting("intermediate_size", ("model.feedforward.size",)),
        Setting("attention_bias", ("model.attention.bias",)),
        Setting("mlp_bias", ("model.feedforward.bias",)),
        Setting("attention_dropout", ("model.attention.dropout",)),
        Setting("rope_parameters", ("model.embedding.position",), write_rotary, read_rotary),
        activation("model.feedforward.activation"),
        Setting("rms_norm_eps", ("model.norm.eps",)),
        Setting("initializer_range", ("model.initialization.std",)),
        LABELS,
        Setting("tie_word_embeddings", (), read=only(False)),
    ),
    derived=Derived(read=derived),
    positions="max_position_embeddings",
    tensors=under("model.", NETWORK),
    optional={},
    heads={
        "causal_lm": causal_head(OUTPUT, {"heads.causal_lm.lm_head": ("lm_head",)}),
        **last_token_heads(),
        "token_classification": HeadLayout(
            objective=TokenClassification(labels=()),
            tensors={"heads.token_classification.classes": ("score",)},
            settings=(Setting("classifier_dropout", ("token_classification.dropout",)),),
            free=frozenset({"usual", "texts"}),
            tells=lambda config, tensors: "score.bias" in tensors,
        ),
        **span_head(under("transformer.", NETWORK), lacks=frozenset()),
    },
    architectures={
        frozenset({"causal_lm"}): "LlamaForCausalLM",
        **{frozenset({head}): "LlamaForSequenceClassification" for head in SEQUENCE_HEADS},
        frozenset({"token_classification"}): "LlamaForTokenClassification",
        frozenset({"span_extraction"}): "LlamaForQuestionAnswering",
        frozenset(): "LlamaModel",
    },
    tied={},
)

TIED_LAYOUT = replace(
    LAYOUT,
    variant={"tie_word_embeddings": True},
    template=replace(LAYOUT.template, objectives=(CausalLM(output=TIED),)),
    settings=(*without(LAYOUT.settings, "tie_word_embeddings"), Setting("tie_word_embeddings", (), read=only(True))),
    heads={**LAYOUT.heads, "causal_lm": replace(causal_head(TIED), constants={"tie_word_embeddings": True})},
    tied={"lm_head.weight": "model.embed_tokens.weight"},
)
"""The same classes with an output matrix that is the token embedding, as that of SmolLM2."""

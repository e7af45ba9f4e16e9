"""Hugging Face's GPT-J classes: `GPTJModel`, `GPTJForCausalLM`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from genus.export.layouts import Derived, Layout, ReferenceOptions, Setting
from genus.export.layouts.conventions import activation, causal_head, only, under
from genus.export.layouts.gpt2 import INNER, RATES, SIZES, TEMPLATE, with_inner
from genus.model.activation import Gelu
from genus.model.attention.masks import Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.parallel import Parallel
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead
from genus.model.norm import Identity, LayerNorm
from genus.model.position.rotary import Rotary
from genus.model.transformer import Transformer
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.recipe import Published
from genus.stages import Stage

if TYPE_CHECKING:
    from genus.part import Json

OUTPUT = LMHead(tied=False)
FRACTION = "rotary_fraction"
"""A key that no file has: the share of a head's dimensions that rotate."""


def completed(config: Json) -> Json:
    """Return a configuration with the number of dimensions of a head that rotate, in place of their share."""
    size = config["n_embd"] // config["n_head"]
    told = {key: value for key, value in config.items() if key != FRACTION}
    return told | {"rotary_dim": round(config[FRACTION] * size)}


def derived(config: Json) -> Json:
    """Return a configuration with the inner size, and the share of a head's dimensions that rotate."""
    if not {"rotary_dim", "n_embd", "n_head"} <= config.keys():
        return with_inner(config)
    return with_inner(config) | {FRACTION: config["rotary_dim"] / (config["n_embd"] // config["n_head"])}


LAYOUT = Layout(
    model_type="gptj",
    prefix="transformer.",
    segmented=False,
    template=replace(
        TEMPLATE,
        name="gpt-j/imported",
        published=Published(title="GPT-J", paper="Wang and Komatsuzaki 2021", year=2021),
        model=Transformer(
            layers=28,
            hidden=4096,
            attention=MultiHeadAttention(heads=16, bias=False, dropout=0.0, mask=Causal()),
            feedforward=MLP(size=16_384, activation=Gelu(approximate="tanh")),
            embedding=Embedding(
                segments=0, position=Rotary(fraction=0.25, interleaved=True), norm=Identity(), dropout=0.0
            ),
            norm=LayerNorm(eps=1e-5),
            block=Parallel(),
            dropout=0.0,
        ),
        objectives=(CausalLM(output=OUTPUT),),
        stages=(Stage(max_length=2048, batch=32, micro_batch=1),),
    ),
    settings=(
        *SIZES,
        Setting("n_embd", ("model.hidden",)),
        INNER,
        Setting(FRACTION, ("model.embedding.position.fraction",)),
        *RATES,
        activation("model.feedforward.activation", key="activation_function"),
        Setting("layer_norm_epsilon", ("model.norm.eps",)),
        Setting("tie_word_embeddings", (), read=only(False)),
    ),
    derived=Derived(write=completed, read=derived),
    positions="n_positions",
    witness=ReferenceOptions(max_equal_length=lambda config: config.get("n_positions")),
    tensors=under(
        "transformer.",
        {
            "network.embed.tokens": ("wte",),
            "network.layers.{}.norm": ("h.{}.ln_1",),
            "network.layers.{}.attention.query": ("h.{}.attn.q_proj",),
            "network.layers.{}.attention.key": ("h.{}.attn.k_proj",),
            "network.layers.{}.attention.value": ("h.{}.attn.v_proj",),
            "network.layers.{}.attention.out": ("h.{}.attn.out_proj",),
            "network.layers.{}.feedforward.inner": ("h.{}.mlp.fc_in",),
            "network.layers.{}.feedforward.out": ("h.{}.mlp.fc_out",),
            "network.norm": ("ln_f",),
        },
    ),
    optional={},
    heads={"causal_lm": causal_head(OUTPUT, {"heads.causal_lm.lm_head": ("lm_head",)})},
    architectures={frozenset({"causal_lm"}): "GPTJForCausalLM", frozenset(): "GPTJModel"},
    tied={},
)

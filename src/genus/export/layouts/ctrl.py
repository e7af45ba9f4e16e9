"""Hugging Face's CTRL classes: `CTRLModel`, `CTRLLMHeadModel`."""

from __future__ import annotations

from dataclasses import replace

from genus.export.layouts import Layout, ReferenceOptions, Setting
from genus.export.layouts.conventions import causal_head, only, under
from genus.export.layouts.gpt2 import SIZES, TEMPLATE
from genus.model.activation import Relu
from genus.model.attention.masks import Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import PreNorm
from genus.model.embedding.scaled import ScaledEmbedding
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead
from genus.model.norm import Identity, LayerNorm
from genus.model.position.sinusoidal import Sinusoidal
from genus.model.transformer import Transformer
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.recipe import Published
from genus.stages import Stage
from genus.tokens.algorithms.end_of_word_bpe import ContinuedBPE

EPS = 1e-6
"""Of the norms of layers, whatever the configuration says of the last."""

LAYOUT = Layout(
    model_type="ctrl",
    prefix="transformer.",
    segmented=False,
    template=replace(
        TEMPLATE,
        name="ctrl/imported",
        published=Published(title="CTRL", paper="arXiv:1909.05858", year=2019),
        tokens=ContinuedBPE(vocab_size=246_534),
        model=Transformer(
            layers=48,
            hidden=1280,
            attention=MultiHeadAttention(heads=16, dropout=0.0, mask=Causal()),
            feedforward=MLP(size=8192, activation=Relu()),
            embedding=ScaledEmbedding(segments=0, position=Sinusoidal(), norm=Identity()),
            norm=LayerNorm(eps=EPS),
            block=PreNorm(),
        ),
        objectives=(CausalLM(output=LMHead()),),
        stages=(Stage(max_length=256, batch=128, micro_batch=8),),
    ),
    settings=(
        *SIZES,
        Setting("n_embd", ("model.hidden",)),
        Setting("dff", ("model.feedforward.size",)),
        Setting("embd_pdrop", ("model.embedding.dropout",)),
        Setting("resid_pdrop", ("model.dropout",)),
        Setting("layer_norm_epsilon", ("model.norm.eps",), only(EPS), only(EPS)),
        Setting("initializer_range", ("model.initialization.std",)),
        Setting("tie_word_embeddings", (), read=only(True)),
    ),
    positions="n_positions",
    witness=ReferenceOptions(max_equal_length=lambda config: config.get("n_positions")),
    tensors=under(
        "transformer.",
        {
            "network.embed.tokens": ("w",),
            "network.layers.{}.attention.query": ("h.{}.multi_head_attention.Wq",),
            "network.layers.{}.attention.key": ("h.{}.multi_head_attention.Wk",),
            "network.layers.{}.attention.value": ("h.{}.multi_head_attention.Wv",),
            "network.layers.{}.attention.out": ("h.{}.multi_head_attention.dense",),
            "network.layers.{}.attention_norm": ("h.{}.layernorm1",),
            "network.layers.{}.feedforward.inner": ("h.{}.ffn.0",),
            "network.layers.{}.feedforward.out": ("h.{}.ffn.2",),
            "network.layers.{}.feedforward_norm": ("h.{}.layernorm2",),
            "network.norm": ("layernorm",),
        },
    ),
    optional={},
    heads={"causal_lm": causal_head(LMHead(), {"heads.causal_lm.lm_head": ("lm_head",)})},
    architectures={frozenset({"causal_lm"}): "CTRLLMHeadModel", frozenset(): "CTRLModel"},
    tied={"lm_head.weight": "transformer.w.weight"},
)

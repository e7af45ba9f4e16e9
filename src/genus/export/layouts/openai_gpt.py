"""Hugging Face's classes of the first GPT: `OpenAIGPTModel`, `OpenAIGPTLMHeadModel`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from genus.export.layouts import Layout, Setting
from genus.export.layouts.conventions import causal_head, only, read_activation, under, write_activation
from genus.export.layouts.gpt2 import DECODER, LAYERS, LENGTH, RATES, SIZES, TEMPLATE, TIED
from genus.model.block.residual import PostNorm
from genus.model.position.learned import LearnedPosition
from genus.recipe import Published
from genus.stages import Stage
from genus.tokens.algorithms.end_of_word_bpe import EndOfWordBPE

if TYPE_CHECKING:
    from genus.part import Json

FUNCTIONS = {"gelu": "gelu_new", "relu": "relu", "silu": "silu", "swish": "silu"}
"""This class's names of activations, and those of the others: `gelu` is the approximation."""
INNER = 4
"""Ratio of the inner size to the hidden size."""


def write_function(value: Json) -> str:
    """Return this class's name of an activation, given as JSON."""
    name = write_activation(value)
    return {theirs: own for own, theirs in reversed(FUNCTIONS.items())}[name]


def read_function(name: str) -> Json:
    """Return the activation of a name of this class, as JSON."""
    return read_activation(FUNCTIONS[name])


def write_inner(size: int) -> int:
    """Return the hidden size for an inner size; raise a `LookupError` if that is no multiple."""
    if size % INNER:
        raise LookupError(size)
    return size // INNER


LAYOUT = Layout(
    model_type="openai-gpt",
    prefix="transformer.",
    segmented=False,
    template=replace(
        TEMPLATE,
        name="gpt/imported",
        published=Published(title="GPT", paper="OpenAI 2018", year=2018),
        tokens=EndOfWordBPE(vocab_size=40_478),
        model=replace(
            DECODER,
            block=PostNorm(),
            embedding=replace(DECODER.embedding, position=LearnedPosition(length=512)),
        ),
        stages=(Stage(max_length=512, batch=64, micro_batch=8),),
    ),
    settings=(
        *SIZES,
        Setting("n_embd", ("model.hidden",)),
        Setting("n_embd", ("model.feedforward.size",), write_inner, lambda hidden: INNER * hidden),
        LENGTH,
        *RATES,
        Setting("afn", ("model.feedforward.activation",), write_function, read_function),
        Setting("layer_norm_epsilon", ("model.norm.eps",)),
        Setting("tie_word_embeddings", (), read=only(True)),
    ),
    tensors=under(
        "transformer.",
        {**LAYERS, "network.embed.tokens": ("tokens_embed",), "network.embed.positions.table": ("positions_embed",)},
    ),
    optional={},
    heads={"causal_lm": causal_head(TIED)},
    architectures={frozenset({"causal_lm"}): "OpenAIGPTLMHeadModel", frozenset(): "OpenAIGPTModel"},
    tied={"lm_head.weight": "transformer.tokens_embed.weight"},
)

"""Hugging Face's GPT-2 classes: `GPT2Model`, `GPT2LMHeadModel`, `GPT2For{Sequence,Token}Classification`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from genus.examples.formats.documents import FullDocuments
from genus.export.layouts import Derived, HeadLayout, Layout, Setting
from genus.export.layouts.bert import TEMPLATE as BERT
from genus.export.layouts.conventions import (
    LABELS,
    POSITIONS,
    SEQUENCE_HEADS,
    activation,
    causal_head,
    fused,
    last_token_heads,
    only,
    span_head,
    transposed,
    under,
)
from genus.model.activation import Gelu
from genus.model.attention.masks import Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import PreNorm
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead
from genus.model.norm import Identity, LayerNorm
from genus.model.position.learned import LearnedPosition
from genus.model.transformer import Transformer
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.objectives.supervised.token import TokenClassification
from genus.optim.adamw import AdamW
from genus.recipe import Published
from genus.stages import Stage
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE

if TYPE_CHECKING:
    from genus.part import Json

TIED = LMHead(bias="none")
"""An output matrix that is the token embedding, without a bias."""

DECODER = Transformer(
    layers=12,
    hidden=768,
    attention=MultiHeadAttention(heads=12, mask=Causal()),
    feedforward=MLP(size=3072, activation=Gelu(approximate="tanh")),
    embedding=Embedding(segments=0, position=LearnedPosition(length=1024), norm=Identity()),
    norm=LayerNorm(eps=1e-5),
    block=PreNorm(),
)
"""GPT-2's architecture."""

TEMPLATE = replace(
    BERT,
    name="gpt2/imported",
    published=Published(title="GPT-2", paper="OpenAI 2019", year=2019),
    tokens=ByteBPE(vocab_size=50_257, special_tokens=GPT2),
    examples=FullDocuments(),
    model=DECODER,
    objectives=(CausalLM(output=TIED),),
    optimizer=AdamW(lr=5e-5, weight_decay=0.01, clip_norm=1.0),
    stages=(Stage(max_length=1024, batch=32, micro_batch=4),),
    finetuning=replace(BERT.finetuning, pooler=None),
)
"""Further pretraining and fine-tuning of GPT-2; related layouts replace what differs."""

SIZES = (Setting("n_layer", ("model.layers",)), Setting("n_head", ("model.attention.heads",)))
"""Settings of OpenAI's names that GPT-2 and the architectures like it share."""
RATES = (
    Setting("embd_pdrop", ("model.embedding.dropout",)),
    Setting("attn_pdrop", ("model.attention.dropout",)),
    Setting("resid_pdrop", ("model.dropout",)),
    Setting("initializer_range", ("model.initialization.std",)),
)
LENGTH = replace(POSITIONS, key="n_positions")
INNER = Setting("n_inner", ("model.feedforward.size",))


def with_inner(config: Json) -> Json:
    """Return a configuration with the inner size, 4 times the hidden size where it is null."""
    return config if config.get("n_inner") or "n_embd" not in config else config | {"n_inner": 4 * config["n_embd"]}


LAYERS = {
    "network.layers.{}.attention.query": fused("h.{}.attn.c_attn"),
    **transposed("network.layers.{}.attention.out", "h.{}.attn.c_proj"),
    **transposed("network.layers.{}.feedforward.inner", "h.{}.mlp.c_fc"),
    **transposed("network.layers.{}.feedforward.out", "h.{}.mlp.c_proj"),
    "network.layers.{}.attention_norm": ("h.{}.ln_1",),
    "network.layers.{}.feedforward_norm": ("h.{}.ln_2",),
}
"""Rows of the layers, without the prefix of Hugging Face names."""

LAYOUT = Layout(
    model_type="gpt2",
    prefix="transformer.",
    segmented=False,
    template=TEMPLATE,
    settings=(
        *SIZES,
        Setting("n_embd", ("model.hidden",)),
        INNER,
        LENGTH,
        *RATES,
        activation("model.feedforward.activation", key="activation_function"),
        Setting("layer_norm_epsilon", ("model.norm.eps",)),
        LABELS,
        Setting("tie_word_embeddings", (), read=only(True)),
        Setting("scale_attn_weights", (), read=only(True)),
        Setting("scale_attn_by_inverse_layer_idx", (), read=only(False)),
    ),
    derived=Derived(read=with_inner),
    tensors=under(
        "transformer.",
        {
            **LAYERS,
            "network.embed.tokens": ("wte",),
            "network.embed.positions.table": ("wpe",),
            "network.norm": ("ln_f",),
        },
    ),
    optional={},
    heads={
        "causal_lm": causal_head(TIED),
        **last_token_heads(),
        "token_classification": HeadLayout(
            objective=TokenClassification(labels=()),
            tensors={"heads.token_classification.classes": ("classifier",)},
            settings=(Setting("classifier_dropout", ("token_classification.dropout",)),),
            free=frozenset({"usual", "texts"}),
        ),
        **span_head(lacks=frozenset()),
    },
    architectures={
        frozenset({"causal_lm"}): "GPT2LMHeadModel",
        **{frozenset({head}): "GPT2ForSequenceClassification" for head in SEQUENCE_HEADS},
        frozenset({"token_classification"}): "GPT2ForTokenClassification",
        frozenset({"span_extraction"}): "GPT2ForQuestionAnswering",
        frozenset(): "GPT2Model",
    },
    tied={"lm_head.weight": "transformer.wte.weight"},
)

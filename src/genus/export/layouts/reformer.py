"""Hugging Face's Reformer classes: `ReformerModel`, `ReformerModelWithLMHead`, `ReformerForMaskedLM`, ...

transformers draws hash rotations in evaluation too, unless `hash_seed` is set, which makes them constant in training as
well; it is therefore left unset. transformers 5 stores `lm_head.bias` but does not add it to the logits. With
bidirectional attention and different lengths of local and LSH chunks, results differ for sequences whose length is not
a multiple of both: transformers pads them to a common multiple, so that the first local chunk attends to an empty chunk
where genus attends to the last one.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from genus.examples.formats.contiguous import Contiguous
from genus.export.layouts import HeadLayout, Layout, ReferenceOptions, Setting
from genus.export.layouts.bert import TEMPLATE
from genus.export.layouts.conventions import (
    LABELS,
    SEQUENCE_DROPOUT,
    activation,
    architectures,
    only,
    sequence_heads,
    span_head,
    under,
)
from genus.model.attention.alternating import AlternatingAttention, shortest
from genus.model.attention.chunked.local import ChunkedLocalAttention
from genus.model.attention.chunked.lsh import SEED, LSHAttention
from genus.model.attention.masks import Causal, Full
from genus.model.block.residual import UnscaledPreNorm
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import ChunkedMLP
from genus.model.head.lm_head import LMHead
from genus.model.norm import Identity
from genus.model.pooler import HalfPooler
from genus.model.position.learned import AxialPosition
from genus.model.stack.reversible import ReversibleStack
from genus.model.transformer import Transformer
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import FineTuning, Published
from genus.stages import Stage
from genus.tokens.algorithms.bytes import Bytes

if TYPE_CHECKING:
    from genus.part import Json

KINDS = ("local", "lsh")
"""Kinds of attention in the order of `AlternatingAttention.attentions`."""
LOCAL, LSH = "model.attention.attentions.0", "model.attention.attentions.1"
POSITION = "model.embedding.position"


def write_layers(model: Json) -> list[str]:
    """Return `attn_layers`, the kind of attention of each layer."""
    order = model["attention"]["order"]
    return [KINDS[order[number % len(order)]] for number in range(model["layers"])]


def read_layers(kinds: list[str]) -> Json:
    """Return the number of layers and the repeating order of attention kinds from `attn_layers`."""
    order = tuple(KINDS.index(kind) for kind in kinds)
    return {"layers": len(kinds), "attention": {"order": list(shortest(order))}}


def write_buckets(buckets: list[int]) -> int | list[int]:
    """Return the number of buckets, or the list of its factors."""
    return buckets[0] if len(buckets) == 1 else buckets


def read_buckets(buckets: int | list[int]) -> list[int]:
    """Return the list of factors of the number of buckets."""
    return [buckets] if isinstance(buckets, int) else list(buckets)


def write_decoder(visibility: Json) -> bool:
    """Return `is_decoder`: whether the attention mask is causal."""
    return {Causal.__name__: True, Full.__name__: False}[visibility["kind"]]


def read_decoder(decoder: bool) -> Json:
    """Return the attention mask as JSON: causal for decoders, full otherwise."""
    return (Causal() if decoder else Full()).to_json()


def write_longest(model: Json) -> int:
    """Return the number of positions, the product of the axial grid's shape."""
    return math.prod(model["embedding"]["position"]["shape"])


def read_longest(longest: int) -> Json:
    """Return no changes, since the axial grid's shape determines the number of positions."""
    return {}


def both(choice: str) -> tuple[str, str]:
    """Return the paths of a choice in local and LSH attention."""
    return (f"{LOCAL}.{choice}", f"{LSH}.{choice}")


LAYERS = {
    "network.layers.{}.attention.query": ("encoder.layers.{}.attention.self_attention.query",),
    "network.layers.{}.attention.key": ("encoder.layers.{}.attention.self_attention.key",),
    "network.layers.{}.attention.query_key": ("encoder.layers.{}.attention.self_attention.query_key",),
    "network.layers.{}.attention.value": ("encoder.layers.{}.attention.self_attention.value",),
    "network.layers.{}.attention.out": ("encoder.layers.{}.attention.output.dense",),
    "network.layers.{}.attention_norm": ("encoder.layers.{}.attention.layer_norm",),
    "network.layers.{}.feedforward.inner": ("encoder.layers.{}.feed_forward.dense.dense",),
    "network.layers.{}.feedforward.out": ("encoder.layers.{}.feed_forward.output.dense",),
    "network.layers.{}.feedforward_norm": ("encoder.layers.{}.feed_forward.layer_norm",),
    "network.norm.0": ("encoder.layer_norm",),
    "network.embed.tokens": ("embeddings.word_embeddings",),
    "network.embed.positions.tables": ("embeddings.position_embeddings.weights",),
}
DIRECT = LMHead(tied=False, bias="constant")
"""Output layer directly over the hidden states; transformers 5 leaves the bias out."""
DENSE = {"network.pooler.0": ("classifier.dense",)}


def lm_head(head: str) -> dict[str, tuple[str, ...]]:
    """Return the rows of a head's output layer."""
    return {f"heads.{head}.lm_head": ("lm_head",), f"heads.{head}.lm_head.weight": ("lm_head.decoder.weight",)}


LAYOUT = Layout(
    model_type="reformer",
    prefix="reformer.",
    template=replace(
        TEMPLATE,
        name="reformer/imported",
        published=Published(title="Reformer", paper="arXiv:2001.04451", year=2020),
        tokens=Bytes(),
        examples=Contiguous(),
        model=Transformer(
            layers=6,
            hidden=256,
            attention=AlternatingAttention(
                attentions=(
                    ChunkedLocalAttention(heads=12, head_size=64, dropout=0.05),
                    LSHAttention(heads=12, head_size=64, dropout=0.0),
                ),
            ),
            feedforward=ChunkedMLP(size=512, dropout=0.05),
            embedding=Embedding(
                segments=0, position=AxialPosition(shape=(64, 64), widths=(64, 192)), norm=Identity(), dropout=0.05
            ),
            block=UnscaledPreNorm(),
            stack=ReversibleStack(),
            pooler=HalfPooler(),
            dropout=0.05,
        ),
        objectives=(MaskedLM(output=DIRECT),),
        stages=(Stage(max_length=512, batch=64, micro_batch=8),),
        finetuning=FineTuning(
            optimizer=AdamW(lr=5e-5, eps=1e-6, weight_decay=0.01, clip_norm=1.0),
            schedule=Linear(warmup=0.1),
            epochs=3,
            batch=32,
            pooler=HalfPooler(),
        ),
    ),
    settings=(
        Setting("attn_layers", ("model",), write_layers, read_layers),
        Setting("hidden_size", ("model.hidden",)),
        Setting("num_attention_heads", both("heads")),
        Setting("attention_head_size", both("head_size")),
        Setting("is_decoder", both("mask"), write_decoder, read_decoder),
        Setting("local_attn_chunk_length", (f"{LOCAL}.chunk_length",)),
        Setting("local_num_chunks_before", (f"{LOCAL}.chunks_before",)),
        Setting("local_num_chunks_after", (f"{LOCAL}.chunks_after",)),
        Setting("local_attention_probs_dropout_prob", (f"{LOCAL}.dropout",)),
        Setting("lsh_attn_chunk_length", (f"{LSH}.chunk_length",)),
        Setting("lsh_num_chunks_before", (f"{LSH}.chunks_before",)),
        Setting("lsh_num_chunks_after", (f"{LSH}.chunks_after",)),
        Setting("lsh_attention_probs_dropout_prob", (f"{LSH}.dropout",)),
        Setting("num_hashes", (f"{LSH}.num_hashes",)),
        Setting("num_buckets", (f"{LSH}.num_buckets",), write_buckets, read_buckets),
        Setting("feed_forward_size", ("model.feedforward.size",)),
        activation("model.feedforward.activation"),
        Setting("chunk_size_feed_forward", ("model.feedforward.chunk",)),
        Setting("hidden_dropout_prob", ("model.dropout", "model.embedding.dropout", "model.feedforward.dropout")),
        Setting("layer_norm_eps", ("model.norm.eps",)),
        Setting("initializer_range", ("model.initialization.std",)),
        Setting("axial_pos_embds", (), read=only(True)),
        Setting("axial_pos_shape", (f"{POSITION}.shape",), read=list),
        Setting("axial_pos_embds_dim", (f"{POSITION}.widths",), read=list),
        Setting("axial_norm_std", (f"{POSITION}.std",)),
        Setting("max_position_embeddings", ("model",), write_longest, read_longest),
        Setting("classifier_dropout", SEQUENCE_DROPOUT),
        LABELS,
    ),
    tensors=under("reformer.", LAYERS) | DENSE,
    optional={"pooler": "network.pooler.0"},
    heads={
        "causal_lm": HeadLayout(
            objective=CausalLM(output=DIRECT), tensors=lm_head("causal_lm"), only={"is_decoder": True}
        ),
        "masked_lm": HeadLayout(
            objective=MaskedLM(output=DIRECT),
            tensors=lm_head("masked_lm"),
            only={"is_decoder": False},
            free=frozenset({"masking"}),
        ),
        **sequence_heads("classifier.out_proj", only={"is_decoder": False}),
        **span_head(),
    },
    architectures=architectures(
        "Reformer",
        {("causal_lm",): "ModelWithLMHead", ("masked_lm",): "ForMaskedLM"},
        missing=frozenset({"token_classification"}),
    ),
    tied={"lm_head.decoder.bias": "lm_head.bias"},
    witness=ReferenceOptions(
        kwargs={"hash_seed": SEED, "chunk_size_feed_forward": 0}, padded=False
    ),  # padding forms chunks of its own
)

"""Hugging Face's ERNIE classes: BERT with a task embedding.

Only configurations with `use_task_id` are read; without it the architecture is BERT's.
"""

from __future__ import annotations

from dataclasses import replace

from genus.export.layouts import Setting, bert
from genus.export.layouts.conventions import tied_decoder, under
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding.tables import TaskEmbedding
from genus.model.feedforward.mlp import MLP
from genus.model.pooler import Pooler
from genus.model.transformer import Transformer
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.recipe import Published

KINDS = {TaskEmbedding.__name__: True}
"""`use_task_id` by the kind of the embedding part."""


def write_kind(kind: str) -> bool:
    """Return `use_task_id` for a kind of embedding; raise a `KeyError` for kinds without task embedding."""
    return KINDS[kind]


def read_kind(use_task_id: bool) -> str:
    """Return the kind of embedding; raise a `KeyError` if `use_task_id` is false."""
    return {value: kind for kind, value in KINDS.items()}[use_task_id]


LAYOUT = replace(
    bert.LAYOUT,
    model_type="ernie",
    prefix="ernie.",
    template=replace(
        bert.LAYOUT.template,
        name="ernie/imported",
        published=Published(title="ERNIE 2.0", paper="arXiv:1907.12412", year=2019),
        model=Transformer(
            layers=12,
            hidden=768,
            attention=MultiHeadAttention(heads=12),
            feedforward=MLP(size=3072),
            embedding=TaskEmbedding(segments=2, tasks=3),
            pooler=Pooler(),
        ),
        objectives=(MaskedLM(),),
    ),
    settings=(
        *bert.LAYOUT.settings,
        Setting("use_task_id", ("model.embedding.kind",), write_kind, read_kind),
        Setting("task_type_vocab_size", ("model.embedding.tasks",)),
    ),
    tensors=under("ernie.", bert.LAYERS | {"network.embed.tasks": ("embeddings.task_type_embeddings",)}),
    architectures={heads: name.replace("Bert", "Ernie") for heads, name in bert.LAYOUT.architectures.items()},
    tied=tied_decoder("cls.predictions", "ernie."),
)

"""Packed batches of random sequences, and small models."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from genus.batch import IGNORE, Batch, Packed, Targets
from genus.model.attention.masks import AttentionMask, Full
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.initialization import Normal
from genus.model.pooler import Pooler
from genus.model.position.learned import LearnedPosition
from genus.model.transformer import Transformer
from genus.objectives import Learner
from genus.objectives.pretraining.labels import SequenceLabels
from genus.objectives.pretraining.masked_lm import MaskedLM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VOCABULARY = 67
MASKED_SHARE = 0.2


def pack(rows: Sequence[Sequence[int]], length: int, ids: Tensor) -> Packed:
    """Lay sequences of the given lengths in rows; what a row has left is one dead sequence of zeros."""
    packed = Packed.laid(torch.zeros(len(rows) * length, dtype=torch.int64), rows, length)
    live = packed.sequence >= 0
    packed.ids[live] = ids[: packed.tokens]
    return replace(packed, facts={"segment": (packed.positions > 3).long() * live})


def with_targets(packed: Packed, seed: int = 0) -> Batch:
    """Add masked targets at random live cells, one class for each live sequence, and rows that only fill up."""
    generator = torch.Generator().manual_seed(seed)
    alive = torch.tensor([start for start, _ in packed.spans()])
    cells = (packed.ids != 0).nonzero().flatten()
    chosen = cells[torch.rand(len(cells), generator=generator) < MASKED_SHARE]
    fill = torch.tensor([0, 0, 0])
    return Batch(
        {"tokens": packed},
        {
            "masked_lm": Targets(torch.cat([chosen, fill]), torch.cat([packed.ids[chosen], fill + IGNORE])),
            "next_sentence": Targets(torch.cat([alive, fill]), torch.cat([packed.ids[alive] % 2, fill + IGNORE])),
        },
    )


def random_ids(number: int, seed: int = 0) -> Tensor:
    """Draw ids above 0, which only dead cells hold."""
    return torch.randint(1, VOCABULARY, (number,), generator=torch.Generator().manual_seed(seed))


def encoder(dropout: float = 0.0, heads: int = 4, visibility: AttentionMask = Full(), layers: int = 2) -> Transformer:  # noqa: B008
    """Return a small encoder."""
    return Transformer(
        layers=layers,
        hidden=32,
        attention=MultiHeadAttention(heads=heads, dropout=dropout, mask=visibility),
        feedforward=MLP(size=48),
        embedding=Embedding(position=LearnedPosition(length=600), dropout=dropout),
        pooler=Pooler(),
        dropout=dropout,
        initialization=Normal(std=0.3),
    )


def learner(model: Transformer, seed: int = 0) -> Learner:
    """Build a model with BERT's two objectives."""
    torch.manual_seed(seed)
    objectives = (MaskedLM(), SequenceLabels(label="next_sentence"))
    heads = {objective.name: objective.build(model, VOCABULARY) for objective in objectives}
    return Learner(model.build(VOCABULARY), heads)


@pytest.fixture
def make_packed() -> Callable[..., Packed]:
    """Return `pack`."""
    return pack


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """Return a function from rows of lengths to a batch with targets."""
    return lambda rows, length, seed=0: with_targets(pack(rows, length, random_ids(len(rows) * length, seed)), seed)


@pytest.fixture
def make_encoder() -> Callable[..., Transformer]:
    """Return `encoder`."""
    return encoder


@pytest.fixture
def make_learner() -> Callable[..., Learner]:
    """Return `learner`."""
    return learner

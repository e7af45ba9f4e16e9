"""Extension of embedding tables from another model: more positions, more segments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from genus.model.embedding import EmbeddingModule
from genus.model.position.learned import LearnedPositions

if TYPE_CHECKING:
    from torch import Tensor


def continued(source: nn.Module, module: nn.Module) -> dict[str, Tensor]:
    """Return position and segment embeddings extended to `module`'s sizes by repeating the source's rows, by name.

    So a model for 4,096 tokens can start from one for 512 (Beltagy et al. 2020, Longformer, section 5).
    """
    modules, found = dict(source.named_modules()), {}
    for name, own in module.named_modules():
        old = modules.get(name)
        if isinstance(own, LearnedPositions) and isinstance(old, LearnedPositions):
            found[f"{name}.table.weight"] = _repeated(old.table, own.table, old.offset, own.offset)
        elif isinstance(own, EmbeddingModule) and isinstance(old, EmbeddingModule) and own.segments and old.segments:
            found[f"{name}.segments.weight"] = _repeated(old.segments, own.segments, 0, 0)
    return found


def _repeated(old: nn.Embedding, own: nn.Embedding, skipped: int, ahead: int) -> Tensor:
    """Return the old table, or, if the own table is larger, the old rows after the `skipped` first ones, repeated."""
    rows, room = old.weight.detach()[skipped:], own.num_embeddings - ahead
    if own.weight.shape == old.weight.shape or own.embedding_dim != old.embedding_dim or room < len(rows):
        return old.weight.detach()
    return torch.cat([own.weight.detach()[:ahead].to(rows), rows[torch.arange(room) % len(rows)]])

"""Chunked attention, within a chunk and its neighbors: the slot of local and LSH attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.model.attention import Attention
from genus.part import Count, Natural

if TYPE_CHECKING:
    from collections.abc import Hashable


class ChunkedAttention(Attention):
    """Chunked attention: a token attends to tokens of its own chunk and of neighboring chunks."""

    heads: Count
    head_size: Count
    """D; A D need not equal H."""
    chunk_length: Count = 64
    """b, tokens per chunk."""
    chunks_before: Natural = 1
    """Number of preceding chunks that a token attends to; the chunk before a sequence's first is its last."""
    chunks_after: Natural = 0
    """Number of following chunks that a token attends to."""

    def plan_key(self) -> Hashable:
        """Return one key for all choices, as `ChunkLayout` holds the indices of each chunk size."""
        return ChunkedAttention

    @property
    def seen(self) -> int:
        """W b, the number of keys per query."""
        return (self.chunks_before + 1 + self.chunks_after) * self.chunk_length

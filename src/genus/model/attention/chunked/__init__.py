"""Attention within chunks and their neighbors: the slot of local and LSH attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.model.attention import Attention
from genus.part import Count, Natural

if TYPE_CHECKING:
    from collections.abc import Hashable


class ChunkedAttention(Attention):
    """What attention within chunks chooses: a token sees some of those in its own chunk and in neighboring ones."""

    heads: Count
    head_size: Count
    """Numbers to which each head is given; the heads together need not be as wide as the hidden states."""
    chunk_length: Count = 64
    """M, tokens of a chunk."""
    chunks_before: Natural = 1
    """How many of the chunks before its own a token sees; the one before a sequence's first is its last."""
    chunks_after: Natural = 0

    def plan_key(self) -> Hashable:
        """Return one key for all choices: the seating holds the seats of each size of chunks."""
        return ChunkedAttention

    @property
    def seen(self) -> int:
        """W M, how many tokens are looked at from one."""
        return (self.chunks_before + 1 + self.chunks_after) * self.chunk_length

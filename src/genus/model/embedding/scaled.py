"""Token embeddings that are multiplied by the square root of their dimension."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from genus.model.embedding import Embedding, EmbeddingModule

if TYPE_CHECKING:
    from torch import Tensor

    from genus.batch import Packed


class ScaledEmbedding(Embedding):
    """Scaled embedding: dropout(norm(sqrt(E) token + segment + position)) (Vaswani et al. 2017, section 3.4)."""

    @property
    def in_words(self) -> str:
        """The embeddings that are summed, the first of them scaled."""
        return f"scaled {super().in_words}"

    def build(self, vocab_size: int, hidden: int) -> ScaledEmbeddingModule:
        """Return the module, from packed sequences to vectors (T, H), with H = `hidden`."""
        return ScaledEmbeddingModule(self, vocab_size, hidden)


class ScaledEmbeddingModule(EmbeddingModule):
    """The module of a `ScaledEmbedding`."""

    def looked_up(self, packed: Packed) -> Tensor:
        """Return the token embeddings (T, E) times sqrt(E)."""
        x_TE = super().looked_up(packed)
        return x_TE * math.sqrt(x_TE.shape[-1])

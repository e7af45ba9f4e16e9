"""Embeddings whose dropout falls on the sum, before its norm.

Legend: T tokens, E embedding size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.model.embed import Embed, Embedding

if TYPE_CHECKING:
    from torch import Tensor

    from genus.batch import Packed


class EarlyDropout(Embedding):
    """norm(dropout(token + segment + position)), as in BigBird (released code: core/utils.py and core/encoder.py).

    Without dropout it is BERT's, which drops numbers after the norm.
    """

    def build(self, vocab_size: int, hidden: int) -> EarlyDropoutEmbed:
        """Return the module."""
        return EarlyDropoutEmbed(self, vocab_size, hidden)


class EarlyDropoutEmbed(Embed):
    """Embeddings with early dropout at work."""

    def vectors(self, packed: Packed) -> Tensor:
        """Return vectors (T, E)."""
        return self.norm(self.dropout(self.total(packed)))  # type: ignore[no-any-return]

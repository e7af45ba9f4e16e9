"""Objectives whose heads have vectors of texts among other outputs, as an embedder that shares their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from genus.model import Model
    from genus.objectives import Head
    from genus.objectives.supervised.embedding import SentenceEmbedder


@runtime_checkable
class HasTextVectors(Protocol):
    """What an objective says whose head compares texts with something else."""

    def text_embedder(self, head: Head, model: Model) -> tuple[SentenceEmbedder, Head]:
        """Return the embedder of texts alone, and its head, which has the parameters of this objective's own."""

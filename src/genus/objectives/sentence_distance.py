"""Sentence distance (Sun et al. 2019, ERNIE 2.0, section 3.2.2)."""

from __future__ import annotations

from typing import ClassVar

from genus.examples.distant_sentences import DistantSentences
from genus.objectives.labeled import FromFormat, OfSequences


class SentenceDistance(FromFormat, OfSequences):
    """-Σ log p(0: adjacent, 1: of one document, 2: of different documents | pooled first token of two sentences)."""

    needs: ClassVar[frozenset[str]] = frozenset({"sentence_distance"})

    examples: DistantSentences = DistantSentences()

    @property
    def classes(self) -> int:
        """Three."""
        return 3

"""Sentence distance (Sun et al. 2019, ERNIE 2.0, section 3.2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from genus.examples.distant_sentences import DistantSentences
from genus.objectives.labeled import OfSequences

if TYPE_CHECKING:
    from genus.examples import Examples


class SentenceDistance(OfSequences):
    """-Σ log p(0: adjacent, 1: of one document, 2: of different documents | pooled first token of two sentences)."""

    needs: ClassVar[frozenset[str]] = frozenset({"sentence_distance"})

    examples: DistantSentences = DistantSentences()

    @property
    def brings(self) -> Examples:
        """The format whose labels these are."""
        return self.examples

    @property
    def classes(self) -> int:
        """Three."""
        return 3

"""Sentence reordering (Sun et al. 2019, ERNIE 2.0, section 3.2.2)."""

from __future__ import annotations

from typing import ClassVar

from genus.examples.shuffled_segments import ShuffledSegments
from genus.objectives.labeled import FromFormat, OfSequences


class SentenceReordering(FromFormat, OfSequences):
    """-Σ log p(into how many segments, and in which order | pooled first token of the shuffled paragraph)."""

    needs: ClassVar[frozenset[str]] = frozenset({"sentence_reordering"})

    examples: ShuffledSegments = ShuffledSegments()

    @property
    def classes(self) -> int:
        """Σ n! for n up to the most segments there are."""
        return self.examples.classes

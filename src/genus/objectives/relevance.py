"""IR relevance (Sun et al. 2019, ERNIE 2.0, section 3.2.3)."""

from __future__ import annotations

from typing import ClassVar

from genus.examples.titled_paragraphs import TitledParagraphs
from genus.objectives.labeled import FromFormat, OfSequences


class Relevance(FromFormat, OfSequences):
    """-Σ log p(0: strongly, 1: weakly, 2: not relevant | pooled first token of a query or title and a paragraph)."""

    needs: ClassVar[frozenset[str]] = frozenset({"relevance"})

    examples: TitledParagraphs = TitledParagraphs()

    @property
    def classes(self) -> int:
        """Three."""
        return 3

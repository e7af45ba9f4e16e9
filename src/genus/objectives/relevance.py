"""IR relevance (Sun et al. 2019, ERNIE 2.0, section 3.2.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from genus.examples.titled_sentences import TitledSentences
from genus.objectives.labeled import OfSequences

if TYPE_CHECKING:
    from genus.examples import Examples


class Relevance(OfSequences):
    """-Σ log p(0: strongly, 1: weakly, 2: not relevant | pooled first token of a query or title and a sentence)."""

    needs: ClassVar[frozenset[str]] = frozenset({"relevance"})

    examples: TitledSentences = TitledSentences()

    @property
    def brings(self) -> Examples:
        """The format whose labels these are."""
        return self.examples

    @property
    def classes(self) -> int:
        """Three."""
        return 3

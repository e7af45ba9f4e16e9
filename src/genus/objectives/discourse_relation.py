"""Discourse relation (Sun et al. 2019, ERNIE 2.0, section 3.2.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from genus.examples.connected_sentences import ConnectedSentences
from genus.objectives.labeled import OfSequences

if TYPE_CHECKING:
    from genus.examples import Examples


class DiscourseRelation(OfSequences):
    """-Σ log p(the connective that stood between two sentences | pooled first token of the sentences without it)."""

    needs: ClassVar[frozenset[str]] = frozenset({"discourse_relation"})

    examples: ConnectedSentences = ConnectedSentences()

    @property
    def brings(self) -> Examples:
        """The format whose labels these are."""
        return self.examples

    @property
    def classes(self) -> int:
        """One a connective."""
        return len(self.examples.connectives)

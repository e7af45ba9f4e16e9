"""Discourse relation (Sun et al. 2019, ERNIE 2.0, section 3.2.3)."""

from __future__ import annotations

from typing import ClassVar

from genus.examples.connected_sentences import ConnectedSentences
from genus.objectives.labeled import FromFormat, OfSequences


class DiscourseRelation(FromFormat, OfSequences):
    """-Σ log p(the connective that stood between two sentences | pooled first token of the sentences without it)."""

    needs: ClassVar[frozenset[str]] = frozenset({"discourse_relation"})

    examples: ConnectedSentences = ConnectedSentences()

    @property
    def classes(self) -> int:
        """One a connective."""
        return len(self.examples.connectives)

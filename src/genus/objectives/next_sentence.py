"""Next-sentence prediction (Devlin et al. 2018, section 3.1, task 2)."""

from __future__ import annotations

from typing import ClassVar

from genus.objectives.labeled import OfSequences


class NextSentence(OfSequences):
    """-Σ log p(0: the second segment follows the first, 1: it is from elsewhere | pooled first token)."""

    needs: ClassVar[frozenset[str]] = frozenset({"next_sentence"})

    @property
    def classes(self) -> int:
        """Two."""
        return 2

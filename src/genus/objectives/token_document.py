"""Token-document relation prediction (Sun et al. 2019, ERNIE 2.0, section 3.2.1)."""

from __future__ import annotations

from typing import ClassVar

from genus.examples.document_segments import DocumentSegments
from genus.objectives.labeled import FromFormat, OfTokens


class TokenDocument(FromFormat, OfTokens):
    """-Σ log p(the token occurs in other segments of its document, too | one segment), at each token."""

    needs: ClassVar[frozenset[str]] = frozenset({"token_document"})

    examples: DocumentSegments = DocumentSegments()

    @property
    def classes(self) -> int:
        """Two: 0 it does not, 1 it does."""
        return 2

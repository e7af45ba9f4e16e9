"""Station 1, corpora to documents: reading, normalization and sentence segmentation."""

from __future__ import annotations

from genus.text.blocks import Documents, TextBlock
from genus.text.fields import TEXT, Fields
from genus.text.read import Corpus, read_blocks, read_documents
from genus.text.sources import Fingerprint, Source, find, fingerprint

__all__ = [
    "TEXT",
    "Corpus",
    "Documents",
    "Fields",
    "Fingerprint",
    "Source",
    "TextBlock",
    "find",
    "fingerprint",
    "read_blocks",
    "read_documents",
]

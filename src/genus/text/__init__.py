"""Station 1, corpora to documents: reading, and cutting documents into sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.text.blocks import Block, Documents
from genus.text.read import read_blocks, read_documents
from genus.text.sources import Fingerprint, find, fingerprint

if TYPE_CHECKING:
    from genus.text.sources import Source

__all__ = ["Block", "Documents", "Fingerprint", "Source", "find", "fingerprint", "read_blocks", "read_documents"]

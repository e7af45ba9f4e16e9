"""Noise in a text for pretraining: a step of a curation."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from genus.curate import EMPTY, DocumentStep, Outcome, Removal
from genus.examples.keys import NOISE, generator
from genus.text.noise import TextNoise

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from genus.curate.document import Document


class Noised(DocumentStep):
    """Characters are changed by a scheme of noise: a function of its seed and of the document's source and row."""

    noise: TextNoise

    def outcomes(self, documents: Sequence[Document]) -> Iterable[Outcome]:
        """Return of each document its text with noise; one of which nothing is left is removed."""
        for one in documents:
            key = zlib.crc32(one.source.encode(errors="replace")), int(one.identity.get("row", 0))
            text = self.noise.noised(one.text, generator(self.noise.seed, NOISE, *key))
            yield Outcome(text, None if text.strip() else Removal(EMPTY, one.text))

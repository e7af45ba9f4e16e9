"""The denoising autoencoder: an encoder reads a corrupted text, a decoder writes what it was (BART).

Legend: E texts, L tokens of a text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.objectives.corruption import Corruption, Text  # a choice is read by its annotation
from genus.objectives.corruption.order import SentencePermutation
from genus.objectives.corruption.tokens import TextInfilling
from genus.objectives.pretraining.text_to_text import TextToText

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from genus.tokens.vocabulary import Vocabulary


class DenoisingAutoencoder(TextToText):
    """Denoising autoencoder: the decoder writes the whole text, of which the encoder reads a corrupted version.

    -Σ log p(x_t | x_1 ... x_{t-1}, c_n(... c_1(x))) for corruptions c_1, ..., c_n, applied in this order.

    Source: Lewis et al. 2019, section 2; released code, fairseq/data/denoising_dataset.py, whose order is sentences,
    tokens or spans, rotation.
    """

    corruptions: tuple[Corruption, ...] = (SentencePermutation(), TextInfilling())

    @property
    def in_words(self) -> str:
        """The name, and the corruptions in their order."""
        return f"{super().in_words} ({', '.join(one.in_words for one in self.corruptions) or 'no corruption'})"

    @property
    def needs_tokens(self) -> frozenset[str]:  # type: ignore[override]
        """The mask token, where a corruption puts it into a text."""
        return frozenset({"mask"} if any(one.needs_mask for one in self.corruptions) else ())

    @property
    def needs_sentences(self) -> bool:  # type: ignore[override]
        """Whether a corruption needs to know which sentence each token is of."""
        return any(one.needs_sentences for one in self.corruptions)

    def sizes(self, text: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return upper bounds (E,) of the lengths of sources, and the lengths of texts."""
        source = text
        for one in self.corruptions:
            source = one.longest(source)
        return source, text

    def divided(
        self, text: Text, vocabulary: Vocabulary, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the corrupted text, and the text."""
        source = text
        for one in self.corruptions:
            source = one.corrupt(source, vocabulary, rng)
        return source.ids, text.ids

"""Corruption of the order of a text: its sentences, or where it begins (BART).

"Released code" is fairseq/data/denoising_dataset.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.errors import GenusError
from genus.objectives.corruption import Corruption, Text, rounded_up
from genus.part import Share

if TYPE_CHECKING:
    from genus.tokens.vocabulary import Vocabulary


class SentencePermutation(Corruption):
    """Sentence permutation: a share of the sentences, rounded up, change places with one another, in any order.

    Source: Lewis et al. 2019, section 2.2; released code, permute_sentences. Deviation: there, a sentence ends at a
    full stop; here, where the token store has its end.
    """

    needs_sentences: ClassVar[bool] = True

    share: Share = 1.0

    @property
    def in_words(self) -> str:
        """The name, and the share where it is not all."""
        return "sentence permutation" if self.share == 1 else f"sentence permutation ({self.share:.0%})"

    def corrupt(self, text: Text, vocabulary: Vocabulary, rng: np.random.Generator) -> Text:
        """Return the text with its sentences in another order.

        Raises:
            GenusError: it is not known where sentences end.
        """
        if text.sentence is None:
            raise GenusError("SentencePermutation needs to know where sentences end, which these examples do not tell; "
                             "take examples=DocSentences, or leave it out")  # fmt: skip
        begins = np.flatnonzero(np.append(True, np.diff(text.sentence) != 0)[: len(text.ids)])
        ends = np.append(begins[1:], len(text.ids))
        order = np.arange(len(begins))
        chosen = rng.permutation(len(begins))[: rounded_up(self.share, len(begins))]
        order[chosen] = rng.permutation(chosen)
        places = [np.arange(begins[number], ends[number]) for number in order.tolist()]
        return text.at(np.concatenate([np.zeros(0, dtype=np.int64), *places]))


class DocumentRotation(Corruption):
    """Document rotation: the text begins at a random token, and what stood before it follows the end.

    Source: Lewis et al. 2019, section 2.2; released code, add_rolling_noise. Deviation: there, a text that begins as
    it did is twice as likely as each other one; here every token is as likely.
    """

    share: Share = 1.0
    """Share of texts that are rotated."""

    @property
    def in_words(self) -> str:
        """The name, and the share where it is not all."""
        return "document rotation" if self.share == 1 else f"document rotation ({self.share:.0%})"

    def corrupt(self, text: Text, vocabulary: Vocabulary, rng: np.random.Generator) -> Text:
        """Return the text from a token on, and then up to it."""
        places = np.arange(len(text.ids))
        if rng.random() >= self.share or not len(places):
            return text
        return text.at(np.roll(places, -int(rng.integers(len(places)))))

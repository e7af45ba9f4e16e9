"""The slot of corruptions: how a text is changed before an encoder reads it, whatever of it the decoder writes.

Legend: E texts, L tokens of a text.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from genus.part import Part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from genus.tokens.vocabulary import Vocabulary

EXACT = 1e-9
"""A product of a share and a number that exceeds a whole number by less is that number: 0.1 x 30 is 3 + 4e-16."""


@dataclass(frozen=True, slots=True)
class Text:
    """The tokens of a text, without the special tokens around it."""

    ids: NDArray[np.int64]
    """(L,) token ids."""
    sentence: NDArray[np.int64] | None = None
    """(L,) a number for each token, the same for those of one sentence; None: it is not known."""

    def at(self, index: NDArray[np.int64]) -> Text:
        """Return the text of the tokens at these places, in this order."""
        return Text(self.ids[index], None if self.sentence is None else self.sentence[index])


class Corruption(Part, ABC):
    """A corruption of a text, one of several that are applied one after the other (Lewis et al. 2019, section 2.2)."""

    needs_mask: ClassVar[bool] = False
    """Whether it puts mask tokens into a text."""
    needs_sentences: ClassVar[bool] = False
    """Whether it needs to know where sentences end."""

    def longest(self, text: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return upper bounds (E,) of the lengths after it of texts of these lengths, which never fall; here L."""
        return text

    @abstractmethod
    def corrupt(self, text: Text, vocabulary: Vocabulary, rng: np.random.Generator) -> Text:
        """Return the corrupted text: a function of its arguments alone."""


def rounded_up(rate: float, number: int) -> int:
    """Return rate x number, rounded up, as the released code rounds shares."""
    return math.ceil(rate * number - EXACT)

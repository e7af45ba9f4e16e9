"""Which tokens a masked language model must restore, and what it sees in their place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from genus.part import Part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Sequence
    from genus.tokens.vocabulary import Vocabulary


class Masking(Part, ABC):
    """A choice of what is masked: `rate` of the tokens; of those `mask` become the mask token, `random` a random one, the rest stay."""

    rate: float = 0.15
    mask: float = 0.8
    random: float = 0.1

    @abstractmethod
    def choose(self, sequence: Sequence, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the positions to restore, in rising order."""

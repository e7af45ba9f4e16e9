"""Losses of sentence embeddings: which vectors are near each other, and which are not.

Legend: M rows of a table, K texts of a row, E size of a vector, C candidates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch.nn import functional as F

from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class EmbeddedRows:
    """Rows of a table with the vectors of their texts: of all rows of an update."""

    vectors_MKE: Tensor
    """Of the anchor, its positive, and negatives; or of both texts of a pair with a score."""
    there_MK: Tensor
    """bool: whether the row has that text; anchor and positive always are there."""
    label: Tensor
    """(M,) float32 scores of pairs; or (M, K) int64, the same number for the same text."""


class SimilarityLoss(Part, ABC):
    """The slot of losses that compare vectors of texts; each is a mean over the rows of an update."""

    scored: ClassVar[bool]
    """Whether it learns from the scores of pairs; otherwise from texts that belong together, and others that do not."""
    negatives: ClassVar[bool] = False
    """Whether each row must have a negative."""

    def least_rows(self, texts: int) -> int:
        """Return how many rows of so many texts an update must have for there to be anything to learn."""
        return 1

    def check(self, scores: Sequence[float]) -> None:
        """Check the scores of training rows.

        Raises:
            ValueError: it cannot learn from one of them.
        """

    @abstractmethod
    def __call__(self, rows: EmbeddedRows) -> Tensor:
        """Return the loss of rows, a scalar."""


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """Return the cosine of vectors (..., E)."""
    return (F.normalize(one, dim=-1) * F.normalize(other, dim=-1)).sum(-1)

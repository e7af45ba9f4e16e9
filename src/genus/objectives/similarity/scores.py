"""Losses of pairs with scores: regression of the cosine, and CoSENT, which learns from the order of the scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch.nn import functional as F

from genus.objectives.similarity import SimilarityLoss, cosine
from genus.part import Positive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from genus.objectives.similarity import EmbeddedRows


class CosineRegression(SimilarityLoss):
    """Regression of the cosine: (cos(a, b) - (score - low) / (high - low))².

    Source: Reimers and Gurevych 2019 (arXiv:1908.10084), section 3, regression objective.
    """

    scored: ClassVar[bool] = True

    low: float = 0.0
    """The score of a pair whose cosine is to be 0."""
    high: float = 1.0
    """The score of a pair whose cosine is to be 1; 5 in STS-B and SICK."""

    def __post_init__(self) -> None:
        """Check the range.

        Raises:
            ValueError: it is empty.
        """
        if self.high <= self.low:
            raise ValueError(f"high: expected more than low, {self.low:g}, got {self.high:g}")

    def check(self, scores: Sequence[float]) -> None:
        """Check that the cosine can be what the scores say, from -1 to 1.

        Raises:
            ValueError: it cannot.
        """
        least, most = min(scores), max(scores)
        if most > self.high or least < 2 * self.low - self.high:
            raise ValueError(f"scores from {least:g} to {most:g} are no cosines, where {self.low:g} is to be 0 and "
                             f"{self.high:g} 1; say --task-set loss.low=... and loss.high={most:g}, or take "
                             "loss=CoSENT, which learns from their order")  # fmt: skip

    def __call__(self, rows: EmbeddedRows) -> Tensor:
        """Return the mean squared error over the rows."""
        wanted_M = (rows.label - self.low) / (self.high - self.low)
        found_M = cosine(rows.vectors_MKE[:, 0], rows.vectors_MKE[:, 1])
        return (found_M - wanted_M.to(found_M)).square().mean()


class CoSENT(SimilarityLoss):
    """CoSENT: log(1 + Σ exp(s (cos_j - cos_i))) over all rows i, j of an update with score_i > score_j.

    Source: Huang et al. 2024 (doi:10.1109/TASLP.2024.3402087); sentence-transformers, `CoSENTLoss`.
    """

    scored: ClassVar[bool] = True

    scale: Positive = 20.0
    """s, the inverse of a temperature."""

    def least_rows(self, texts: int) -> int:
        """Return 2: it compares rows."""
        return 2

    def __call__(self, rows: EmbeddedRows) -> Tensor:
        """Return the loss, which is of all rows together."""
        score_M = self.scale * cosine(rows.vectors_MKE[:, 0], rows.vectors_MKE[:, 1])
        wrong_MM = score_M[None] - score_M[:, None]
        wrong_MM = wrong_MM.masked_fill(rows.label[:, None] <= rows.label[None], float("-inf"))
        return F.pad(wrong_MM.flatten(), (1, 0)).logsumexp(0)

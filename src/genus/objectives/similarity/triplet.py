"""Triplet loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from genus.objectives.similarity import SimilarityLoss, cosine
from genus.part import NotNegative

if TYPE_CHECKING:
    from torch import Tensor

    from genus.objectives.similarity import EmbeddedRows


class Triplet(SimilarityLoss):
    """Triplet loss: max(0, d(anchor, positive) - d(anchor, negative) + margin), the mean over the negatives of a row.

    Source: Schroff et al. 2015 (arXiv:1503.03832), equation 3; for sentences Reimers and Gurevych 2019
    (arXiv:1908.10084), section 3, with the Euclidean distance and a margin of 1; sentence-transformers' usual margin
    is 5.
    """

    scored: ClassVar[bool] = False
    negatives: ClassVar[bool] = True

    margin: NotNegative = 5.0
    distance: Literal["euclidean", "cosine"] = "euclidean"
    """d: |a - b|, or 1 - cos(a, b)."""

    def __call__(self, rows: EmbeddedRows) -> Tensor:
        """Return the mean over the negatives of all rows."""
        anchor_M1E, others_MKE = rows.vectors_MKE[:, :1], rows.vectors_MKE[:, 1:]
        if self.distance == "cosine":
            away_MK = 1 - cosine(anchor_M1E, others_MKE)
        else:
            away_MK = torch.linalg.vector_norm(anchor_M1E - others_MKE, dim=-1)
        hinge_MK = (away_MK[:, :1] - away_MK[:, 1:] + self.margin).clamp(min=0)
        there_MK = rows.there_MK[:, 2:]
        return torch.where(there_MK, hinge_MK, 0).sum() / there_MK.sum().clamp(min=1)

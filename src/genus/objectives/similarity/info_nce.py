"""InfoNCE with in-batch negatives, which sentence-transformers calls the multiple negatives ranking loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn import functional as F

from genus.objectives.similarity import SimilarityLoss
from genus.part import Positive

if TYPE_CHECKING:
    from torch import Tensor

    from genus.objectives.similarity import EmbeddedRows


class InfoNCE(SimilarityLoss):
    """In-batch negatives: -log exp(s cos(a_i, p_i)) / Σ_c exp(s cos(a_i, c)) over all positives and negatives c.

    Those of other rows are negatives of a row too. False ones are left out of the sum: what has the same text as the
    row's positive or its anchor, and positives of rows with the same anchor.

    Source: Henderson et al. 2017 (arXiv:1705.00652), section 4.4; van den Oord et al. 2018 (arXiv:1807.03748),
    equation 4. `symmetric`: Radford et al. 2021 (arXiv:2103.00020), figure 3.
    """

    scored: ClassVar[bool] = False

    scale: Positive = 20.0
    """s, the inverse of the temperature; 20 is sentence-transformers' usual one."""
    symmetric: bool = False
    """Whether each positive also tells its anchor from those of other rows; the loss is then the mean of both."""

    def least_rows(self, texts: int) -> int:
        """Return 2 for rows without negatives of their own, else 1."""
        return 2 if texts == 2 else 1

    def __call__(self, rows: EmbeddedRows) -> Tensor:
        """Return the mean over the rows."""
        unit_MKE = F.normalize(rows.vectors_MKE, dim=-1)
        candidates_CE = unit_MKE[:, 1:].transpose(0, 1).flatten(0, 1)  # the positives, then each column of negatives
        scores_MC = (self.scale * unit_MKE[:, 0] @ candidates_CE.T).masked_fill(left_out(rows), float("-inf"))
        positive_M, total_M = scores_MC.diagonal(), scores_MC.logsumexp(1)
        if self.symmetric:
            total_M = (total_M + scores_MC[:, : len(scores_MC)].logsumexp(0)) / 2
        return (total_M - positive_M).mean()


def left_out(rows: EmbeddedRows) -> Tensor:
    """Return (M, C) bool: which candidates are no negatives of a row, its own positive excepted.

    As the relation is symmetric in the rows where the candidate is a positive, it serves both directions.
    """
    text_MK, size = rows.label, len(rows.label)
    text_C, there_C = (side[:, 1:].transpose(0, 1).flatten() for side in (text_MK, rows.there_MK))
    found_MC = (text_MK[:, :1] == text_C) | (text_MK[:, 1:2] == text_C) | ~there_C
    found_MC[:, :size] |= text_MK[:, :1] == text_MK[:, 0]
    found_MC[:, :size] &= ~torch.eye(size, dtype=torch.bool, device=found_MC.device)
    return found_MC

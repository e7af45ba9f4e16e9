"""Mixtures of two examples of a batch, by their pooled states and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.objectives.supervised.mixup import MixedClassification, mixed
from genus.part import Positive
from genus.tasks.augment import Augmentation, FewLabels

if TYPE_CHECKING:
    from genus.objectives.supervised import FineTuned
    from genus.tasks.dataset import LabeledRow


class Mixup(Augmentation):
    """Training on mixtures alone, drawn anew in every forward pass; see `MixedClassification`.

    With several forward passes an update (`accumulate`) the two are of the same pass.
    """

    alpha: Positive = 1.0
    """Of Beta(alpha, alpha), by which shares are drawn."""

    def further(self, given: FewLabels) -> list[LabeledRow]:
        """Return no rows: what is mixed are states."""
        return []

    def objective(self, objective: FineTuned, passed: int) -> MixedClassification:
        """Return the objective with the loss of mixtures.

        Raises:
            UsageError: the task has another loss.
        """
        return mixed(objective, self.alpha)

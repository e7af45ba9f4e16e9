"""Mixtures of two examples of a batch, by their pooled states and labels."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from genus.errors import UsageError
from genus.objectives.supervised.mixup import MixedClassification
from genus.objectives.supervised.sequence import SequenceClassification
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

    def objective(self, objective: FineTuned) -> MixedClassification:
        """Return the objective with the loss of mixtures.

        Raises:
            UsageError: the task has another loss.
        """
        if type(objective) is not SequenceClassification:
            raise UsageError("augmentation: Mixup has a loss of its own; take --task classification")
        return MixedClassification(
            alpha=self.alpha, **{one.name: getattr(objective, one.name) for one in fields(objective)}
        )

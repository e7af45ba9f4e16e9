"""Adversarial training in embedding space: token embeddings are perturbed against the model while it learns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.objectives.supervised.adversarial import AdversarialClassification, Passes, adversarial
from genus.part import NotNegative, Positive
from genus.tasks.augment import Augmentation, FewLabels

if TYPE_CHECKING:
    from genus.objectives.supervised import FineTuned
    from genus.tasks.dataset import LabeledRow


class AdversarialTraining(Augmentation):
    """FreeLB (Zhu et al. 2020), and as a case of it FGM (Miyato et al. 2017); see `AdversarialClassification`.

    An update takes about as long as `passes` + 1 plain ones.
    """

    passes: Passes = 3
    step: Positive = 0.1
    start: NotNegative = 1.0
    bound: NotNegative = 0.6

    def further(self, given: FewLabels) -> list[LabeledRow]:
        """Return no rows: what changes are embeddings."""
        return []

    def objective(self, objective: FineTuned, passed: int) -> AdversarialClassification:
        """Return the objective with the loss of perturbed embeddings.

        Raises:
            UsageError: the task has another loss.
        """
        return adversarial(objective, self.passes, self.step, self.start, self.bound)

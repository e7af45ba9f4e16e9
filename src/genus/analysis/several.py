"""Analysis of any number of labels for each text, each decided by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.analysis import Analysis, Decisions, Likelihoods, Told
from genus.analysis.findings import Classes, LabelCounts
from genus.evaluate.class_report import ClassReport
from genus.objectives.supervised.multi_label import chances
from genus.tasks.multi_label import MultiLabel

if TYPE_CHECKING:
    from torch import Tensor

    from genus.analysis import Answered

HELD = ("no", "yes")
"""Whether a label holds, in words."""


class MultiLabelAnalysis(Analysis):
    """Analysis of several labels: decision number N V + v is on label v of row N."""

    of: ClassVar = MultiLabel
    unit: ClassVar[str] = "label of a text"

    def likelihoods(self, given: Answered) -> Likelihoods:
        """Return the logits 0 and z of each decision, whose softmax is 1 - sigmoid(z) and sigmoid(z)."""
        logits_U = given.outputs.values.astype(np.float64).ravel()
        truth_U = np.where(np.isnan(given.encoded.labels), -1, given.encoded.labels).astype(np.int64).ravel()
        told_U = given.objective.decide(given.outputs.values).ravel().astype(np.int64)
        pairs_U2 = np.stack([np.zeros_like(logits_U), logits_U], 1)
        return Likelihoods(pairs_U2, told_U, truth_U, "each label", binary=True)

    def decisions(self, given: Answered) -> Decisions:
        """Return each decision, with the probability of what is told: that the label holds, or that it does not."""
        truth_U, told_U = self.likelihoods(given).truth_U, given.objective.decide(given.outputs.values).ravel()
        chance_U = chances(given.outputs.values).ravel()
        owner_U = np.repeat(np.arange(len(given.rows)), given.outputs.values.shape[1])
        return Decisions(owner_U, truth_U >= 0, told_U == truth_U, np.where(told_U, chance_U, 1 - chance_U))

    def classes(self, given: Answered) -> Classes | None:
        """Return the scores of each label, and how often it is missed or told wrongly."""
        if not given.labeled.any():
            return None
        names, truth = given.objective.classes, given.objective.truth(given.encoded.labels[given.labeled])
        told = given.objective.decide(given.outputs.values[given.labeled])
        counts = [(one & other).sum(0).tolist() for one in (truth, ~truth) for other in (told, ~told)]
        labels = [LabelCounts(*one) for one in zip(names, *counts, strict=True)]
        unseen = [one.label for one in labels if not one.right + one.missed + one.wrong]
        return Classes("label", ClassReport.of_labels(names, truth, told), labels=labels, unseen=unseen)

    def told(self, given: Answered, decision: int) -> Told:
        """Return whether a label is told, explained by its logit, which is the log-odds."""
        row, label = divmod(decision, given.outputs.values.shape[1])
        name, truth = given.objective.classes[label], int(self.likelihoods(given).truth_U[decision])
        told = HELD[int(given.objective.decide(given.outputs.values[row])[label])]

        def odds(outputs: dict[str, Tensor]) -> Tensor:
            return outputs["logits"][0, label]

        held = "" if truth < 0 else f"{name}: {HELD[truth]}"
        return Told(held, f"{name}: {told}", f"log-odds of {name}", row, odds, {})

"""Multi-label classification: any number of labels per sequence, none included, each told by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from torch.nn import functional as F

from genus.objectives.supervised.sequence import SequenceClassification
from genus.part import Fraction

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Targets
    from genus.objectives import Head, Sums

HALF = 0.5
"""The probability over which a label is told, where no threshold is tuned."""


class MultiLabelClassification(SequenceClassification):
    """Multi-label classification: Σ_c BCE(sigmoid(W d(pooled) + b)_c, y_c), with d dropout and y_c 1 or 0 per label c.

    The binary cross-entropies of a text are summed over the labels, so that the loss of a label does not depend on how
    many others there are; Hugging Face's classes (`problem_type: multi_label_classification`) take their mean.

    Source: Nam et al. 2014 (arXiv:1312.5419), who take it in place of a ranking loss.
    """

    multi_label: ClassVar[bool] = True
    scored: ClassVar[str] = "label scores"
    """What metrics judge that rank by scores, rather than comparing decisions."""

    thresholds: tuple[Fraction, ...] = ()
    """The probability over which each label is told, in the order of the labels; none: 0.5."""

    def __post_init__(self) -> None:
        """Check the thresholds.

        Raises:
            ValueError: there are other than one per label, or none.
        """
        if len(self.thresholds) not in (0, len(self.labels)):
            raise ValueError(f"thresholds: expected one for each of {len(self.labels)} labels, or none, "
                             f"got {len(self.thresholds)}")  # fmt: skip

    @property
    def tuned_thresholds(self) -> dict[str, float]:
        """The thresholds by label; empty if none is tuned."""
        return dict(zip(self.labels, self.thresholds, strict=True)) if self.thresholds else {}

    @property
    def told_over(self) -> str:
        """A sentence on the thresholds; empty if none is tuned."""
        if not self.thresholds:
            return ""
        several = ", ".join(f"{label} {value:.3g}" for label, value in self.tuned_thresholds.items())
        one = {*self.thresholds}
        over = f"of {min(one):.3g}" if len(one) == 1 else f"that is tuned for each: {several}"
        return f"labels are told over a probability {over}"

    def sums(self, outputs_MV: Tensor, targets: Targets) -> Sums:
        """Return the loss, and the number of texts of which all labels are right, summed over targets."""
        (loss,) = self.losses
        label_MV = targets.label.nan_to_num()
        each_M = F.binary_cross_entropy_with_logits(outputs_MV, label_MV, reduction="none").sum(-1)
        right_M = ((outputs_MV.detach() > 0) == (label_MV > HALF)).all(-1)
        return {loss: targets.total(each_M), f"{loss}/correct": targets.total(right_M.float())}

    def soft_loss(self, own_MV: Tensor, taught_MV: Tensor, temperature: float) -> Tensor:
        """Return τ² Σ_c BCE(sigmoid(own / τ)_c, sigmoid(taught / τ)_c) (M,), τ being the temperature."""
        soft_MV = (taught_MV / temperature).sigmoid()
        each_MV = F.binary_cross_entropy_with_logits(own_MV / temperature, soft_MV, reduction="none")
        return temperature**2 * each_MV.sum(-1)

    def tempered(self, head: Head, temperature: float) -> Self:
        """Return the objective with thresholds at the probabilities that those so far become."""
        with np.errstate(divide="ignore"):
            logits = np.log(self.thresholds) - np.log1p(-np.array(self.thresholds))
        found = super().tempered(head, temperature)
        return replace(found, thresholds=tuple(chances(logits / temperature).tolist()))

    def label_of(self, label: str | None) -> int | float:
        """Return the index of a label; NaN for None, the target of every label of a text that has no annotation."""
        return np.nan if label is None else super().label_of(label)

    def truth(self, targets: NDArray[Any]) -> NDArray[Any]:
        """Return which labels (M, V) the texts have."""
        return np.asarray(targets > HALF)

    def decide(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return which labels (M, V) have a probability over their threshold."""
        return np.asarray(chances(outputs) > np.array(self.thresholds or HALF))

    def judged(self, outputs: NDArray[np.float32], judges: str) -> NDArray[Any]:
        """Return the logits (M, V) for metrics that rank, the decisions (M, V) for others."""
        return outputs if judges == self.scored else self.decide(outputs)

    def explain(self, outputs: NDArray[np.float32]) -> tuple[str | float | list[str], dict[str, float]]:
        """Return the labels that are told, and the probability of each label."""
        told = [label for label, told in zip(self.labels, self.decide(outputs), strict=True) if told]
        return told, dict(zip(self.labels, chances(outputs).tolist(), strict=True))


def chances(outputs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the probabilities sigmoid(outputs), in float64, in which those near 1 differ too."""
    wide = outputs.astype(np.float64)
    raised = np.exp(-np.abs(wide))
    return np.asarray(np.where(wide >= 0, 1.0, raised) / (1.0 + raised))

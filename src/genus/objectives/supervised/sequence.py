"""Sequence classification and regression, of single texts or pairs (Devlin et al. 2018, section 4.1)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np

from genus.batch import IGNORE
from genus.errors import UsageError
from genus.objectives.pretraining.distillation import Comparison
from genus.objectives.supervised import LinearFineTuned
from genus.part import Positive

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Targets
    from genus.objectives import Head, Sums
    from genus.objectives.linear_head import LinearHead

LARGEST = float(np.finfo(np.float32).max)
USUAL = 2.0
"""Standard deviations from the mean within which nineteen of twenty normally distributed labels lie."""
SHOWN = 20
"""Largest number of labels that an error message lists."""


class SequenceClassification(LinearFineTuned):
    """Sequence classification: -Σ log softmax(W d(pooled) + b)[label], with d dropout."""

    pooled: ClassVar[bool] = True
    teachable: ClassVar[bool] = True

    labels: tuple[str, ...]
    """Class names, in the order of the class indices."""

    @property
    def outputs(self) -> int:
        """One logit per class."""
        return len(self.labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels

    def sized(self, outputs: int) -> Self:
        """Return the objective with that many labels; `LABEL_0`, ... where a configuration does not name them all."""
        if len(self.labels) == outputs:
            return self
        return replace(self, labels=tuple(f"LABEL_{number}" for number in range(outputs)))

    def soft_loss(self, own_MV: Tensor, taught_MV: Tensor, temperature: float) -> Tensor:
        """Return τ² KL(softmax(taught / τ) || softmax(own / τ)) (M,) in nats, τ being the temperature."""
        found: Tensor = Comparison(temperature)(own_MV, taught_MV)
        return found

    def tempered(self, head: Head, temperature: float) -> Self:
        """Return the objective, with weights and bias that are divided by the temperature."""
        cast("LinearHead", head).rescale(1 / temperature, 0.0)
        return self

    def label_of(self, label: str | None) -> int | float:
        """Return the class index; `IGNORE` for None."""
        if label is None:
            return IGNORE
        if label not in self.labels:
            known = ", ".join(self.labels[:SHOWN]) + (", ..." if len(self.labels) > SHOWN else "")
            raise ValueError(f"label {label!r:.80} does not occur in training, which has {known}")
        return self.labels.index(label)

    def can_be(self, label: str) -> bool:
        """Return whether the label is a class."""
        return label in self.labels

    def decide(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the index (M,) of the most probable class."""
        return np.asarray(outputs.argmax(-1))

    def rewards(self, outputs: NDArray[np.float32], label: str | None) -> NDArray[np.float64]:
        """Return the log-odds (N,) of a class: log p / (1 - p), its logit less the log-sum of the others' exponentials.

        Of two classes it is the difference of both logits (Ziegler et al. 2019, section 3.1.1, mock sentiment).
        """
        if label is None or label not in self.labels:
            known = ", ".join(self.labels[:SHOWN])
            given = "is missing" if label is None else f"{label!r:.80} is no class of the model"
            raise UsageError(f"--reward-class: {given}; name one of {known}")
        at, wide = self.labels.index(label), outputs.astype(np.float64)
        if len(self.labels) < 2:
            raise UsageError("--reward-class: the model has one class, which has no odds; take one of two or more")
        return np.asarray(wide[:, at] - np.logaddexp.reduce(np.delete(wide, at, axis=1), axis=1))

    def explain(self, outputs: NDArray[np.float32]) -> tuple[str | float | list[str], dict[str, float]]:
        """Return the most probable label, and the softmax probability of each label."""
        raised = np.exp(outputs - outputs.max())
        chances = (raised / raised.sum()).tolist()
        return self.labels[int(outputs.argmax())], dict(zip(self.labels, chances, strict=True))


class SequenceRegression(LinearFineTuned):
    """Sequence regression: Σ (w · d(pooled) + b - (label - mean) / std)², with d dropout.

    The labels are standardized, as a new layer's outputs are near 0 and change by little in fine-tuning. Published
    weights hold `mean` and `std`, so that a folder's outputs are in the units of the labels (`folded`).
    """

    pooled: ClassVar[bool] = True
    answer: ClassVar[str] = "values"
    teachable: ClassVar[bool] = True

    mean: float = 0.0
    """Mean of the training labels."""
    std: Positive = 1.0
    """Standard deviation of the training labels."""

    def __post_init__(self) -> None:
        """Check that published weights can hold the mean.

        Raises:
            ValueError: there is a mean, and no bias to hold it.
        """
        if self.mean and not self.bias:
            raise ValueError("mean: a layer without a bias has none to hold it; set bias to true")

    @property
    def outputs(self) -> int:
        """One regression value."""
        return 1

    def sums(self, outputs_MV: Tensor, targets: Targets) -> Sums:
        """Return the summed squared error."""
        (loss,) = self.losses
        return {loss: targets.total((outputs_MV[:, 0] - targets.label.nan_to_num()).square())}

    def soft_loss(self, own_MV: Tensor, taught_MV: Tensor, temperature: float) -> Tensor:
        """Return squared errors (M,) of standardized values; the teacher's are in the units of the labels."""
        return (own_MV[:, 0] - (taught_MV[:, 0] - self.mean) / self.std).square()

    def label_of(self, label: str | None) -> int | float:
        """Return the label as a number, standardized; NaN for None."""
        if label is None:
            return math.nan
        try:
            number = float(label)
        except ValueError:
            number = math.nan
        if not abs(number) <= LARGEST:
            raise ValueError(f"label {label!r:.40} is not a number that float32 holds")
        return (number - self.mean) / self.std

    def can_be(self, label: str) -> bool:
        """Return whether a number is at most `USUAL` standard deviations from the mean."""
        return abs(float(self.label_of(label))) <= USUAL

    def folded(self, head: Head) -> Self:
        """Return the objective without mean and std, which weights and bias then hold: w std, b std + mean."""
        cast("LinearHead", head).rescale(self.std, self.mean)
        return replace(self, mean=0.0, std=1.0)

    def truth(self, targets: NDArray[Any]) -> NDArray[Any]:
        """Return standardized labels in the units of the labels."""
        return targets.astype(np.float64) * self.std + self.mean

    def decide(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the regression values (M,) in the units of the labels."""
        return self.truth(outputs[:, 0])

    def rewards(self, outputs: NDArray[np.float32], label: str | None) -> NDArray[np.float64]:
        """Return the regression values (N,) in the units of the labels."""
        self.refuse_class(label)
        return np.asarray(self.decide(outputs), np.float64)

    def explain(self, outputs: NDArray[np.float32]) -> tuple[str | float | list[str], dict[str, float]]:
        """Return the regression value, and no class probabilities."""
        return float(self.decide(outputs[None])[0]), {}

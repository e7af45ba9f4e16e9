"""Sequence classification and regression, of single texts or pairs (Devlin et al. 2018, section 4.1)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from genus.batch import IGNORE
from genus.objectives.supervised import FineTuned

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Targets
    from genus.objectives import Sums

SHOWN = 20
"""Largest number of labels that an error message lists."""


class SequenceClassification(FineTuned):
    """Sequence classification: -Σ log softmax(W d(pooled) + b)[label], with d dropout."""

    pooled: ClassVar[bool] = True

    labels: tuple[str, ...]
    """Class names, in the order of the class indices."""

    @property
    def outputs(self) -> int:
        """One logit per class."""
        return len(self.labels)

    def sized(self, outputs: int) -> Self:
        """Return the objective with that many labels; `LABEL_0`, ... where a configuration does not name them all."""
        if len(self.labels) == outputs:
            return self
        return replace(self, labels=tuple(f"LABEL_{number}" for number in range(outputs)))

    def label_of(self, label: str | None) -> int | float:
        """Return the class index; `IGNORE` for None."""
        if label is None:
            return IGNORE
        if label not in self.labels:
            known = ", ".join(self.labels[:SHOWN]) + (", ..." if len(self.labels) > SHOWN else "")
            raise ValueError(f"label {label!r} does not occur in training, which has {known}")
        return self.labels.index(label)

    def decide(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the index (M,) of the most probable class."""
        return np.asarray(outputs.argmax(-1))

    def explain(self, outputs: NDArray[np.float32]) -> tuple[str | float, dict[str, float]]:
        """Return the most probable label, and the softmax probability of each label."""
        raised = np.exp(outputs - outputs.max())
        chances = (raised / raised.sum()).tolist()
        return self.labels[int(outputs.argmax())], dict(zip(self.labels, chances, strict=True))


class SequenceRegression(FineTuned):
    """Sequence regression: Σ (w · d(pooled) + b - label)², with d dropout."""

    pooled: ClassVar[bool] = True
    answer: ClassVar[str] = "values"

    @property
    def outputs(self) -> int:
        """One regression value."""
        return 1

    def sums(self, outputs_MC: Tensor, targets: Targets) -> Sums:
        """Return the summed squared error."""
        (loss,) = self.losses
        return {loss: targets.total((outputs_MC[:, 0] - targets.label.nan_to_num()).square())}

    def label_of(self, label: str | None) -> int | float:
        """Return the label as a finite number; NaN for None."""
        try:
            number = math.nan if label is None else float(label)
        except ValueError:
            number = math.inf
        if math.isinf(number) or (label is not None and math.isnan(number)):
            raise ValueError(f"label {label!r} is not a number")
        return number

    def decide(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the regression values (M,)."""
        return outputs[:, 0]

    def explain(self, outputs: NDArray[np.float32]) -> tuple[str | float, dict[str, float]]:
        """Return the regression value, and no class probabilities."""
        return float(outputs[0]), {}

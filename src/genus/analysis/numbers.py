"""Analysis of predicted numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.analysis import Analysis, Decisions, Told
from genus.analysis.findings import Numbers
from genus.tasks.regression import Regression

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from genus.analysis import Answered


class RegressionAnalysis(Analysis):
    """Analysis of a number for each text: what is far from the truth is a mistake."""

    of: ClassVar = Regression
    probable: ClassVar[bool] = False

    def both(self, given: Answered) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return true numbers (N,), NaN where there is none, and predicted ones."""
        return given.objective.truth(given.encoded.labels), given.objective.decide(given.outputs.values)

    def decisions(self, given: Answered) -> Decisions:
        """Return the numbers, with their distance from the truth."""
        truth_N, told_N = self.both(given)
        nowhere_N = np.zeros(len(truth_N), np.bool_)
        return Decisions(np.arange(len(truth_N)), given.labeled, nowhere_N, np.abs(told_N - truth_N))

    def numbers(self, given: Answered) -> Numbers | None:
        """Return true and predicted numbers of the labeled rows, with their errors."""
        if not given.labeled.any():
            return None
        truth, told = (side[given.labeled] for side in self.both(given))
        error, spread = told - truth, float(np.square(truth - truth.mean()).sum())
        return Numbers(
            truth.tolist(), told.tolist(), float(error.mean()), float(np.abs(error).mean()),
            float(np.sqrt(np.square(error).mean())), 1 - float(np.square(error).sum()) / spread if spread else None,
        )  # fmt: skip

    def told(self, given: Answered, decision: int) -> Told:
        """Return a number, explained by itself, in the units of the labels."""
        truth, told = (float(side[decision]) for side in self.both(given))
        zero, one = given.objective.decide(np.array([[0.0], [1.0]], np.float32)).tolist()

        def number(outputs: dict[str, Tensor]) -> Tensor:
            (values_11,) = outputs.values()
            return values_11[0, 0].mul(one - zero)

        known = f"{truth:.4g}" if given.labeled[decision] else ""
        return Told(known, f"{told:.4g}", "the number", decision, number, {})

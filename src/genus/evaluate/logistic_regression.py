"""Multinomial logistic regression by L-BFGS, and the search for its regularization.

Legend: N sequences, of a batch or of a part of it; E embedding size, at the input or at the output; V vocabulary, or
classes of a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

UPDATES, PRECISE = 200, 1e-6
"""Most updates of L-BFGS, and the largest gradient of the mean loss at which it ends."""
HISTORY = 10
"""Steps by which L-BFGS knows curvature, as in SciPy, on which scikit-learn rests."""
DECADES = 6
"""The weakest penalty is 10^-6, the strongest 10^6 (Radford et al. 2021, appendix A.3)."""
FIRST, LAST = 2.0, 1 / 8
"""Decades between penalties that are tried first, and last (appendix A.3)."""


def fitted(
    x_NE: Tensor,
    truth_N: Tensor,
    classes: int,
    penalty: float = 1.0,
    *,
    updates: int = UPDATES,
    tolerance: float = PRECISE,
) -> tuple[Tensor, Tensor]:
    """Return the weights (V, E) and biases (V,) of multinomial logistic regression, by L-BFGS from 0.

        min over W, b of  Σ_n -log softmax(W x_n + b)[y_n] + penalty / 2 |W|²

    which is scikit-learn's with C = 1 / penalty.
    """
    weight = torch.zeros(classes, x_NE.shape[1], dtype=x_NE.dtype, requires_grad=True)
    bias = torch.zeros(classes, dtype=x_NE.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=updates,
        tolerance_grad=tolerance,
        history_size=HISTORY,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = F.cross_entropy(x_NE @ weight.T + bias, truth_N, reduction="sum")
        found = (found + penalty / 2 * weight.square().sum()) / len(x_NE)
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def best_penalty(score: Callable[[float], float]) -> tuple[float, dict[float, float]]:
    """Return the penalty with the highest score, the stronger of equal ones, and the scores of all that were tried.

    Tried are 10^-6, 10^-4, ..., 10^6, then both neighbors of the best at half the distance, and so on down to an eighth
    of a decade: 15 of the 97 penalties on that grid.

    Args:
        score: of a penalty, such as the accuracy on held-out rows.

    Source: Radford et al. 2021, appendix A.3, parametric binary search.
    """
    found: dict[float, float] = {}
    step, asked = FIRST, [-DECADES + FIRST * one for one in range(int(2 * DECADES / FIRST) + 1)]
    while True:
        found |= {decade: score(10.0**decade) for decade in asked if decade not in found}
        best = max(found, key=lambda decade: (found[decade], decade))
        if step <= LAST:
            return 10.0**best, {10.0**decade: one for decade, one in sorted(found.items())}
        step /= 2
        asked = [decade for decade in (best - step, best + step) if abs(decade) <= DECADES]

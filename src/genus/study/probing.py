"""Multinomial logistic regression with weight decay, fitted to convergence.

Legend: N rows, H size of a state, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS = 500
"""Iterations of L-BFGS at most."""
TOLERANCE = 1e-7
"""Largest entry of the gradient at which it ends."""


def fitted(
    x_NH: NDArray[np.float64], y_N: NDArray[np.int64], classes: int, decay: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return W (H, C) and b (C,) that minimize Σ_i -log softmax(x_i W + b)[y_i] / N + decay ‖W‖² / 2, by L-BFGS.

    The bias has no decay. The objective is convex, so that the result does not depend on where it begins.
    """
    x, y = torch.from_numpy(np.ascontiguousarray(x_NH)), torch.from_numpy(y_N)
    weight = torch.zeros(x.shape[1], classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=STEPS, tolerance_grad=TOLERANCE, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = torch.nn.functional.cross_entropy(x @ weight + bias, y) + decay / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach().numpy(), bias.detach().numpy()

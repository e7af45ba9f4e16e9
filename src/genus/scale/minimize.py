"""Minimization of many small problems at once: BFGS with weak Wolfe steps, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

DECREASE, CURVATURE = 1e-4, 0.9
"""Constants of the Wolfe conditions."""
STEPS, TRIES = 400, 30
SMALL = 1e-9
"""Largest entry of a gradient at which a problem counts as solved."""
ENOUGH, PATIENCE, TINY = 1e-9, 3, 1e-12
"""Relative decrease below which so many steps in a row end the search, and what is added to values before dividing."""


def minimize(objective: Callable[[Tensor], Tensor], starts: Tensor, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """Return (S, P) minimizers and (S,) values of an objective that maps (S, P) to (S,), each row by itself.

    With as few parameters as a law has, the memory of L-BFGS is the whole matrix of BFGS. The line search doubles and
    halves until the weak Wolfe conditions hold, as suits objectives with kinks (Lewis and Overton 2013).
    """
    x = starts.clone()
    value, gradient = _evaluate(objective, x)
    s, p = x.shape
    eye = torch.eye(p, dtype=x.dtype).expand(s, p, p)
    inverse = eye.clone()
    still = 0
    for _ in range(steps):
        direction = -(inverse @ gradient[:, :, None])[:, :, 0]
        slope = (direction * gradient).sum(1)
        uphill = ~(slope < 0)
        inverse[uphill], direction[uphill] = eye[uphill], -gradient[uphill]
        slope = (direction * gradient).sum(1)
        step, new_value, new_gradient = _search(objective, x, value, direction, slope)
        moved = new_value < value
        gained = ((value - new_value) / (value.abs() + TINY)).nan_to_num(1.0)
        still = still + 1 if bool((gained < ENOUGH).all()) else 0
        if still == PATIENCE or not moved.any() or gradient.abs().max() < SMALL:
            break
        difference, change = step[:, None] * direction, new_gradient - gradient
        inverse = torch.where(moved[:, None, None], _updated(inverse, difference, change), eye)
        x = torch.where(moved[:, None], x + difference, x)
        value, gradient = torch.where(moved, new_value, value), torch.where(moved[:, None], new_gradient, gradient)
    return x, value


def _evaluate(objective: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return values and gradients; what is not a number is infinite."""
    x = x.detach().requires_grad_()
    value = objective(x)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    wrong = ~(value.isfinite() & gradient.isfinite().all(1))
    return value.detach().masked_fill(wrong, torch.inf), gradient.masked_fill(wrong[:, None], 0.0)


def _search(
    objective: Callable[[Tensor], Tensor], x: Tensor, value: Tensor, direction: Tensor, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return steps along the directions, with values and gradients there."""
    step, low, high = torch.ones_like(value), torch.zeros_like(value), torch.full_like(value, torch.inf)
    best, best_value = torch.zeros_like(value), value.clone()
    best_gradient = torch.zeros_like(x)
    done = torch.zeros_like(value, dtype=torch.bool)
    for _ in range(TRIES):
        new_value, gradient = _evaluate(objective, x + step[:, None] * direction)
        better = new_value < best_value
        best, best_value = torch.where(better, step, best), torch.where(better, new_value, best_value)
        best_gradient = torch.where(better[:, None], gradient, best_gradient)
        long = ~(new_value <= value + DECREASE * step * slope)
        short = ~long & ((gradient * direction).sum(1) < CURVATURE * slope)
        done |= ~long & ~short
        if done.all():
            break
        high, low = torch.where(long, step, high), torch.where(short, step, low)
        step = torch.where(done, step, torch.where(high.isinf(), 2 * step, (low + high) / 2))
    return best, best_value, best_gradient


def _updated(inverse: Tensor, difference: Tensor, change: Tensor) -> Tensor:
    """Return the inverse Hessians after a step, unchanged where the curvature along it is not positive."""
    curvature = (difference * change).sum(1)
    rho = torch.where(curvature > 1e-300, 1 / curvature.clamp_min(1e-300), torch.zeros_like(curvature))[:, None, None]
    left = torch.eye(difference.shape[1], dtype=inverse.dtype) - rho * difference[:, :, None] * change[:, None, :]
    updated = left @ inverse @ left.mT + rho * difference[:, :, None] * difference[:, None, :]
    usable = (curvature > 1e-300) & updated.isfinite().all(-1).all(-1)
    return torch.where(usable[:, None, None], updated, inverse)

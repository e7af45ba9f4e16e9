"""Adafactor optimizer: factored second moments, of which only row and column means are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from genus.optim import Optimizer
from genus.optim.foreach import ForeachOptimizer
from genus.optim.groups import groups
from genus.optim.pieces import mean
from genus.part import NotNegative, Positive

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor, nn


class Adafactor(Optimizer):
    """Adaptive learning rates with sublinear memory, without momentum, as in T5.

    Source: Shazeer and Stern 2018, arXiv:1804.04235.

    For a matrix (algorithms 4 and 5), with q = g² + floor and β = 1 - t^-moment_decay at update t:

    r = β r + (1 - β) row means of q,  c = β c + (1 - β) column means of q,  v = r cᵀ / mean(r)
    u = g / √v,  u = u / max(1, RMS(u) / update_clip),  x = x - rate (u + weight_decay x)

    The rate is lr times the schedule's factor; with `relative` it is at most 1 / √t (as in the paper, with lr = 0.01
    and a constant schedule). With `scaled`, u is multiplied by max(least_scale, RMS(x)). For vectors, v is stored
    unfactored.
    """

    moments: ClassVar[int] = 0

    weight_decay: NotNegative = 0.0
    relative: bool = True
    """Whether the learning rate is also bounded by 1 / √t at update t."""
    scaled: bool = True
    """Whether updates are scaled by the parameter's root mean square."""
    moment_decay: NotNegative = 0.8
    """Exponent of the second-moment decay β = 1 - t^-moment_decay, which tends to 1 (section 7.2)."""
    update_clip: Positive = 1.0
    """Update clipping: the largest root mean square of u (section 6)."""
    floor: NotNegative = 1e-30
    """ε₁, which is added to squared gradients (section 9)."""
    least_scale: NotNegative = 1e-3
    """ε₂, the smallest scale of updates, for parameters near 0 (section 8)."""

    def build(self, module: nn.Module) -> AdafactorOptimizer:
        """Return Adafactor over the module's parameters."""
        return AdafactorOptimizer(groups(module, self.lr, self.weight_decay), self)


class AdafactorOptimizer(ForeachOptimizer):
    """The PyTorch optimizer of `Adafactor`, tensor by tensor; the last two axes of a tensor are its matrix."""

    averaged: ClassVar[Mapping[str, int]] = {"rows": -1, "columns": -2}

    def __init__(self, groups: Iterable[dict[str, Any]], choice: Adafactor) -> None:
        super().__init__(groups)
        self.choice = choice

    def update(self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """Return the update direction of each weight of a group."""
        choice, lr, directions = self.choice, group["lr"], []
        for weight, gradient, updates in zip(weights, gradients, self.counted(weights), strict=True):
            squares = gradient.square().add_(choice.floor)
            second = self._second(weight, squares, updates**-choice.moment_decay)
            step = gradient * second.rsqrt_()
            step /= (_rms(step, weight) / choice.update_clip).clamp(min=1.0)
            if choice.scaled:
                step *= _rms(weight, weight).clamp(min=choice.least_scale)
            step.add_(weight, alpha=group["weight_decay"])
            directions.append(step * (updates**-0.5 / lr) if choice.relative and lr > updates**-0.5 else step)
        return directions

    def _second(self, weight: Tensor, squares: Tensor, share: float) -> Tensor:
        """Update the second moments with new squared gradients, weighted by `share` (1 - β), and return them."""
        state = self.state[weight]
        if squares.ndim < 2:
            return _mixed(state, "second", squares, share).clone()
        rows = _mixed(state, "rows", mean(squares, weight, -1), share)
        columns = _mixed(state, "columns", mean(squares, weight, -2), share)
        return rows / mean(rows, weight, -2) * columns


def _mixed(state: dict[str, Tensor], name: str, new: Tensor, share: float) -> Tensor:
    """Update a moving average in the optimizer state with weight `share`; the first value is stored as it is."""
    state[name] = state[name].lerp_(new, share) if name in state else new
    return state[name]


def _rms(tensor: Tensor, weight: Tensor) -> Tensor:
    """Return the root mean square of a tensor, a scalar; it is divided among processes as `weight`."""
    return mean(tensor.square(), weight).sqrt()

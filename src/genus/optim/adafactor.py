"""Adafactor: a matrix's second moments from those of its rows and its columns, so that next to nothing is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from genus.optim import Optimizer
from genus.optim.foreach import ForeachOptimizer
from genus.optim.groups import groups
from genus.part import NotNegative, Positive

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn


class Adafactor(Optimizer):
    """Adaptive rates with sublinear memory, without momentum, as T5 uses it (Shazeer and Stern 2018, arXiv:1804.04235).

    For a matrix (algorithms 4 and 5), with q = g² + floor and β = 1 - t^-moment_decay at update t:

    r = β r + (1 - β) row means of q,  c = β c + (1 - β) column means of q,  v = r cᵀ / mean(r)
    u = g / √v,  u = u / max(1, RMS(u) / update_clip),  x = x - rate (u + weight_decay x)

    The rate is lr times the schedule's factor, with relative steps at most 1 / √t (so the paper, with lr = 0.01 and a
    constant schedule). With scaling, u is taken times max(least_scale, RMS(x)). Vectors keep their whole v.
    """

    moments: ClassVar[int] = 0

    weight_decay: NotNegative = 0.0
    relative: bool = True
    """Rates are bounded by the number of updates, besides the schedule."""
    scaled: bool = True
    """A tensor moves by a share of its own root mean square."""
    moment_decay: NotNegative = 0.8
    """How fast the share of the past nears 1 (section 7.2)."""
    update_clip: Positive = 1.0
    """Largest root mean square of u (section 6)."""
    floor: NotNegative = 1e-30
    """ε₁, which is added to squared gradients (section 9)."""
    least_scale: NotNegative = 1e-3
    """ε₂: what a tensor near 0 moves by a share of (section 8)."""

    def build(self, module: nn.Module) -> AdafactorOptimizer:
        """Return the rule."""
        return AdafactorOptimizer(groups(module, self.lr, self.weight_decay), self)


class AdafactorOptimizer(ForeachOptimizer):
    """Updates of Adafactor, a tensor at a time; of several axes, the last two are the matrix."""

    def __init__(self, groups: Iterable[dict[str, Any]], choice: Adafactor) -> None:
        super().__init__(groups)
        self.choice = choice

    def update(self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """Return the directions of a group."""
        choice, lr, directions = self.choice, group["lr"], []
        for weight, gradient, updates in zip(weights, gradients, self.counted(weights), strict=True):
            squares = gradient.square().add_(choice.floor)
            second = self._second(self.state[weight], squares, updates**-choice.moment_decay)
            step = gradient * second.rsqrt_()
            step /= (_rms(step) / choice.update_clip).clamp(min=1.0)
            if choice.scaled:
                step *= _rms(weight).clamp(min=choice.least_scale)
            step.add_(weight, alpha=group["weight_decay"])
            directions.append(step * (updates**-0.5 / lr) if choice.relative and lr > updates**-0.5 else step)
        return directions

    def _second(self, state: dict[str, Tensor], squares: Tensor, share: float) -> Tensor:
        """Return the second moments, having taken in new squares for a share of all."""
        if squares.ndim < 2:
            return _mixed(state, "second", squares, share).clone()
        rows = _mixed(state, "rows", squares.mean(dim=-1, keepdim=True), share)
        columns = _mixed(state, "columns", squares.mean(dim=-2, keepdim=True), share)
        return rows / rows.mean(dim=-2, keepdim=True) * columns


def _mixed(state: dict[str, Tensor], name: str, new: Tensor, share: float) -> Tensor:
    """Return what is remembered under a name, having taken in what is new for a share of all; at first it is all."""
    state[name] = state[name].lerp_(new, share) if name in state else new
    return state[name]


def _rms(tensor: Tensor) -> Tensor:
    """Return the root mean square."""
    return tensor.square().mean().sqrt()

"""Base class of optimizers with `_foreach` updates: what `torch.optim.Optimizer` needs apart from the update rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor


class ForeachOptimizer(torch.optim.Optimizer, ABC):
    """An optimizer that updates all tensors of a group at once, with PyTorch's `_foreach` functions.

    Updates are counted per tensor, as `updates` in its state, since a tensor may get its first gradient late. All other
    state is tensors. As in PyTorch's fused optimizers, a step changes no weight if `found_inf`, a scalar tensor, is 1;
    this needs no host-device synchronization.
    """

    averaged: ClassVar[Mapping[str, int]] = {}
    """State tensors that are means of squared gradients over an axis, and that axis."""
    found_inf: Tensor | None = None

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(groups, {})

    @abstractmethod
    def update(self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """Return the update direction of each weight x of a group, as new tensors: x = x - lr direction."""

    def kept(self, name: str, weights: list[Tensor]) -> list[Tensor]:
        """Return the state tensors of a name, one per weight and of its shape, initialized with zeros."""
        for weight in weights:
            if name not in self.state[weight]:
                self.state[weight][name] = torch.zeros_like(weight)
        return [self.state[weight][name] for weight in weights]

    def counted(self, weights: list[Tensor]) -> list[int]:
        """Return the update count t of each weight, 1 at its first gradient."""
        return [self.state[weight]["updates"] for weight in weights]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Make one update of all weights that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            pairs = [(weight, weight.grad) for weight in group["params"] if weight.grad is not None]
            if pairs:
                weights, gradients = map(list, zip(*pairs, strict=True))
                self._move(group, weights, gradients)
        return loss

    def _move(self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor]) -> None:
        for weight in weights:
            self.state[weight]["updates"] = self.state[weight].get("updates", 0) + 1
        blocked = self.found_inf
        if blocked is not None:  # NaN stays NaN when multiplied by 0
            for gradient in gradients:
                gradient.masked_fill_(blocked.bool(), 0.0)
        directions = self.update(group, weights, gradients)
        if blocked is not None:
            torch._foreach_mul_(directions, 1.0 - blocked)
        torch._foreach_add_(weights, directions, alpha=-group["lr"])

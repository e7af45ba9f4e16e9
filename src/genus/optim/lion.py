"""Lion optimizer: every weight moves by the learning rate, against the sign of a momentum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from genus.optim import Optimizer
from genus.optim.foreach import ForeachOptimizer
from genus.optim.groups import groups
from genus.part import Fraction, NotNegative, Positive

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn


class Lion(Optimizer):
    """Evolved sign momentum (Chen et al. 2023, arXiv:2302.06675, algorithm 2).

    c = β₁ m + (1 - β₁) g,  x = x - lr (sign(c) + weight_decay x),  m = β₂ m + (1 - β₂) g

    Its learning rates are 3 to 10 times lower than Adam's, and its weight decay higher by the same factor (section 5).
    """

    moments: ClassVar[int] = 1

    betas: tuple[Fraction, Fraction] = (0.9, 0.99)
    weight_decay: NotNegative = 0.01
    clip_norm: Positive | None = 1.0
    """Largest L2 norm of the gradient, None for no clipping."""

    def build(self, module: nn.Module) -> LionOptimizer:
        """Return Lion over the module's parameters."""
        return LionOptimizer(groups(module, self.lr, self.weight_decay), self.betas)


class LionOptimizer(ForeachOptimizer):
    """The PyTorch optimizer of `Lion`, whose state is one momentum per parameter."""

    def __init__(self, groups: Iterable[dict[str, Any]], betas: tuple[float, float]) -> None:
        super().__init__(groups)
        self.betas = betas

    def update(self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """Return the update direction of each weight of a group."""
        momenta = self.kept("momentum", weights)
        directions = torch._foreach_lerp(momenta, gradients, 1 - self.betas[0])
        torch._foreach_sign_(directions)
        torch._foreach_add_(directions, weights, alpha=group["weight_decay"])
        torch._foreach_lerp_(momenta, gradients, 1 - self.betas[1])
        return list(directions)

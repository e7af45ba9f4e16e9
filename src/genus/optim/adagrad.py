"""Adagrad: each weight has a rate of its own, which falls with the squares of all its gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from genus.optim import Optimizer
from genus.optim.foreach import ForeachOptimizer
from genus.optim.groups import groups
from genus.part import NotNegative, Positive

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn


class Adagrad(Optimizer):
    """Adagrad (Duchi et al. 2011, figure 1, with diagonal matrices).

    v = v + g²,  x = x - lr g / (√v + eps)
    """

    moments: ClassVar[int] = 1

    eps: NotNegative = 1e-10
    initial: NotNegative = 0.0
    """Value at which v starts."""
    clip_norm: Positive | None = None
    """Largest L2 norm of the gradient, None for no clipping."""

    def build(self, module: nn.Module) -> AdagradOptimizer:
        """Return Adagrad over the module's parameters."""
        return AdagradOptimizer(groups(module, self.lr, 0.0), self)


class AdagradOptimizer(ForeachOptimizer):
    """The PyTorch optimizer of `Adagrad`, whose state is one sum of squares per weight."""

    def __init__(self, groups: Iterable[dict[str, Any]], choice: Adagrad) -> None:
        super().__init__(groups)
        self.choice = choice

    def update(self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """Return the update direction of each weight of a group."""
        sums = self.kept("sum", weights)
        torch._foreach_addcmul_(sums, gradients, gradients)
        roots = torch._foreach_add(sums, self.choice.initial)
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, self.choice.eps)
        return list(torch._foreach_div(gradients, roots))

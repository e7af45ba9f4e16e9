"""Adagrad: each weight has a rate of its own, which falls with the squares of all its gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch

from genus.optim import Optimizer
from genus.optim.groups import groups
from genus.part import NotNegative, Positive

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer as TorchOptimizer


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

    def build(self, module: nn.Module) -> TorchOptimizer:
        """Return PyTorch's Adagrad over the module's parameters."""
        return torch.optim.Adagrad(
            groups(module, self.lr, 0.0), lr=self.lr, eps=self.eps, initial_accumulator_value=self.initial
        )

"""NVLAMB optimizer: LAMB on gradients divided by their global norm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from genus.optim import Optimizer
from genus.optim.groups import groups
from genus.optim.lamb import LAMBOptimizer
from genus.optim.pieces import total_norm
from genus.part import Fraction, NotNegative

if TYPE_CHECKING:
    from torch import nn


class NVLAMB(Optimizer):
    """LAMB as NVIDIA uses it to train BERT ("Pretraining BERT with layer-wise adaptive learning rates", 2019).

    g = g / ‖all g‖, then as LAMB: x = x - lr ‖x‖ / ‖u‖ u with u = m̂ / (√v̂ + eps) + weight_decay x

    ‖all g‖ is the global gradient norm, over all parameters, so that gradient clipping before it has no effect. Every
    tensor has a trust ratio ‖x‖ / ‖u‖, including biases and norms, which have no weight decay (apex, fused_lamb.py:
    use_nvlamb).
    """

    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: NotNegative = 1e-6
    weight_decay: NotNegative = 0.01

    def build(self, module: nn.Module) -> NVLAMBOptimizer:
        """Return NVLAMB with trust ratios for all parameters."""
        made = [group | {"adapts": True} for group in groups(module, self.lr, self.weight_decay)]
        return NVLAMBOptimizer(made, self.betas, self.eps)


class NVLAMBOptimizer(LAMBOptimizer):
    """The PyTorch optimizer of `NVLAMB`: LAMB's update after global gradient normalization."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Make one update; the gradients are divided by their global norm in place."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        weights = [weight for group in self.param_groups for weight in group["params"] if weight.grad is not None]
        gradients = [weight.grad for weight in weights]
        length = total_norm(gradients, weights)
        torch._foreach_div_(gradients, length.clamp(min=torch.finfo(length.dtype).tiny))
        super().step()
        return loss

"""LAMB optimizer: Adam with a trust ratio per parameter tensor, for large batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from genus.optim import Optimizer
from genus.optim.foreach import ForeachOptimizer
from genus.optim.groups import groups
from genus.optim.pieces import norms
from genus.part import Fraction, NotNegative, Positive

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn


class LAMB(Optimizer):
    """Layer-wise adaptive moments for large batches (You et al. 2019, arXiv:1904.00962, algorithm 2).

    m = β₁ m + (1 - β₁) g,  v = β₂ v + (1 - β₂) g²,  u = m̂ / (√v̂ + eps) + weight_decay x,  x = x - lr ‖x‖ / ‖u‖ u

    with m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ) at update t; without bias correction, m̂ = m and v̂ = v. The norms are
    those of one parameter tensor; the trust ratio ‖x‖ / ‖u‖ is 1 where either is 0, and for biases and norms, as in
    ALBERT's released code (lamb_optimizer.py, exclude_from_layer_adaptation). φ of the paper is the identity.
    """

    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: NotNegative = 1e-6
    weight_decay: NotNegative = 0.01
    clip_norm: Positive | None = 1.0
    """Largest L2 norm of the gradient, None for no clipping."""
    bias_correction: bool = True
    """False in ALBERT's released code, which uses the moments uncorrected."""

    def build(self, module: nn.Module) -> LAMBOptimizer:
        """Return LAMB with trust ratios for matrices and embeddings."""
        made = [group | {"adapts": group["is_matrix"]} for group in groups(module, self.lr, self.weight_decay)]
        return LAMBOptimizer(made, self.betas, self.eps, self.bias_correction)


class LAMBOptimizer(ForeachOptimizer):
    """The PyTorch optimizer of `LAMB`; a group's `adapts` says whether its tensors have a trust ratio."""

    def __init__(
        self, groups: Iterable[dict[str, Any]], betas: tuple[float, float], eps: float, bias_correction: bool = True
    ) -> None:
        super().__init__(groups)
        self.betas, self.eps, self.bias_correction = betas, eps, bias_correction

    def update(self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """Return the update direction of each weight of a group."""
        updates = self.adam(weights, gradients)
        torch._foreach_add_(updates, weights, alpha=group["weight_decay"])
        if group["adapts"]:
            torch._foreach_mul_(updates, ratios(weights, updates))
        return updates

    def adam(self, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """Return Adam's updates, m̂ / (√v̂ + eps)."""
        firsts, seconds = self.kept("first", weights), self.kept("second", weights)
        torch._foreach_lerp_(firsts, gradients, 1 - self.betas[0])
        torch._foreach_mul_(seconds, self.betas[1])
        torch._foreach_addcmul_(seconds, gradients, gradients, 1 - self.betas[1])
        roots = torch._foreach_sqrt(seconds)
        if not self.bias_correction:
            torch._foreach_add_(roots, self.eps)
            return list(torch._foreach_div(firsts, roots))
        first, second = ([1 - beta**t for t in self.counted(weights)] for beta in self.betas)
        torch._foreach_div_(roots, [correction**0.5 for correction in second])
        torch._foreach_add_(roots, self.eps)
        torch._foreach_mul_(roots, first)
        return list(torch._foreach_div(firsts, roots))


def ratios(weights: list[Tensor], updates: list[Tensor]) -> list[Tensor]:
    """Return the trust ratio ‖x‖ / ‖u‖ of every tensor, 1 where either is 0, without host-device synchronization."""
    lengths, moves = (norms(tensors, weights) for tensors in (weights, updates))
    return list(torch.where((lengths > 0) & (moves > 0), lengths / moves, 1.0))

"""AdamW, with and without bias correction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from genus.optim import Optimizer
from genus.optim.groups import groups
from genus.part import Fraction, NotNegative, Positive

LATE = 2.0**40
"""A number of updates by which any βᵗ has become 0 (β up to 1 - 1e-9); in float32 it stays as it is when 1 is added."""

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer as TorchOptimizer


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, algorithm 2).

    m = β₁ m + (1 - β₁) g,  v = β₂ v + (1 - β₂) g²,  x = x - lr (m̂ / (√v̂ + eps) + weight_decay x)

    with m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ) at update t, or the bare m and v without bias correction.
    """

    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: NotNegative = 1e-8
    weight_decay: NotNegative = 0.01
    clip_norm: Positive | None = 1.0
    """Largest global L2 norm of the gradient, None for no clipping."""
    bias_correction: bool = True
    """False as in BERT's released code: the moments are used as they are."""

    def build(self, module: nn.Module) -> TorchOptimizer:
        """Return PyTorch's AdamW, fused into one kernel where the parameters lie on a device that has it."""
        kind = torch.optim.AdamW if self.bias_correction else UncorrectedAdamW
        made = groups(module, self.lr, self.weight_decay)
        fused = all(parameter.device.type in {"cpu", "cuda"} for group in made for parameter in group["params"])
        return kind(made, lr=self.lr, betas=self.betas, eps=self.eps, fused=fused or None)


class UncorrectedAdamW(torch.optim.AdamW):
    """AdamW without bias correction, by PyTorch's own kernels.

    PyTorch counts updates per tensor. Counted from `LATE` instead of 0, βᵗ is 0, so that the correction 1 - βᵗ is 1.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Make one update."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and not self.state[weight]:
                    self.state[weight] = {
                        "step": torch.full((), LATE, device=weight.device if group["fused"] else "cpu"),
                        "exp_avg": torch.zeros_like(weight, memory_format=torch.preserve_format),
                        "exp_avg_sq": torch.zeros_like(weight, memory_format=torch.preserve_format),
                    }
        return super().step(closure)

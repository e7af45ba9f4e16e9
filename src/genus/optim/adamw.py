"""AdamW optimizer, with and without bias correction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch

from genus.optim import Optimizer
from genus.optim.groups import groups
from genus.part import Fraction, NotNegative, Positive

LATE = 2.0**40
"""A step count at which βᵗ is 0 for any β up to 1 - 1e-9; adding 1 to it does not change it in float32."""

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer as TorchOptimizer


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, algorithm 2).

    m = β₁ m + (1 - β₁) g,  v = β₂ v + (1 - β₂) g²,  x = x - lr (m̂ / (√v̂ + eps) + weight_decay x)

    with m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ) at update t; without bias correction, m̂ = m and v̂ = v.
    """

    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: NotNegative = 1e-8
    weight_decay: NotNegative = 0.01
    decayed: Literal["matrices", "all"] = "matrices"
    """What weight decay applies to: matrices and embeddings, or all parameters, as in fairseq."""
    clip_norm: Positive | None = 1.0
    """Largest L2 norm of the gradient, None for no clipping."""
    bias_correction: bool = True
    """False in BERT's released code, which uses the moments uncorrected."""

    def build(self, module: nn.Module) -> TorchOptimizer:
        """Return PyTorch's AdamW, fused if all parameters are on devices with the fused kernel (CPU, CUDA)."""
        kind = torch.optim.AdamW if self.bias_correction else UncorrectedAdamW
        made = groups(module, self.lr, self.weight_decay, self.decayed)
        fused = all(parameter.device.type in {"cpu", "cuda"} for group in made for parameter in group["params"])
        return kind(made, lr=self.lr, betas=self.betas, eps=self.eps, fused=fused or None)


class UncorrectedAdamW(torch.optim.AdamW):
    """AdamW without bias correction, with PyTorch's kernels.

    PyTorch counts updates per tensor. The count starts at `LATE` instead of 0, where βᵗ is 0 and the correction 1 - βᵗ
    is 1.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Make one update, after initializing the state of weights with their first gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and not self.state[weight]:
                    self.state[weight] = {
                        "step": torch.full((), LATE, device=weight.device if group["fused"] else "cpu"),
                        "exp_avg": torch.zeros_like(weight, memory_format=torch.preserve_format),
                        "exp_avg_sq": torch.zeros_like(weight, memory_format=torch.preserve_format),
                    }
        return super().step(closure)

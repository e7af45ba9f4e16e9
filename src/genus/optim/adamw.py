"""AdamW, with and without bias correction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from genus.optim import Optimizer
from genus.optim.groups import groups
from genus.part import Fraction, NotNegative, Positive

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

    With c₁ = 1 - β₁ᵗ and c₂ = 1 - β₂ᵗ, the corrected update with the rate lr c₁ / √c₂, the constant eps / √c₂ and the
    decay weight_decay √c₂ / c₁ is the uncorrected update with lr, eps and weight_decay.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Make one update."""
        wanted = [{name: group[name] for name in ("lr", "eps", "weight_decay")} for group in self.param_groups]
        for group in self.param_groups:
            group["updates"] = group.get("updates", 0) + 1
            first, second = (1 - beta ** group["updates"] for beta in group["betas"])
            group["lr"] *= first / second**0.5
            group["eps"] /= second**0.5
            group["weight_decay"] *= second**0.5 / first
        result = super().step(closure)
        for group, values in zip(self.param_groups, wanted, strict=True):
            group.update(values)
        return result

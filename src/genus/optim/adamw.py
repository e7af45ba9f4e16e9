"""AdamW, with and without bias correction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.optim import Optimizer

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer as TorchOptimizer


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, algorithm 2)."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip_norm: float | None = 1.0
    """Largest global L2 norm of the gradient, None for no clipping."""
    bias_correction: bool = True
    """False as in BERT's released code: the moments are used as they are."""

    def build(self, module: nn.Module) -> TorchOptimizer:
        """Return the optimizer."""
        raise NotImplementedError

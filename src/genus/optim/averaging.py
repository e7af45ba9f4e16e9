"""Exponentially weighted average of the weights: AdamW that keeps one, and its use in place of the weights."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from genus.optim.adamw import AdamW
from genus.optim.groups import groups
from genus.part import Fraction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn
    from torch.optim import Optimizer as TorchOptimizer

AVERAGE = "average"
"""Name of the average in an optimizer's state."""


class AveragedAdamW(AdamW):
    """AdamW whose result is an average of the weights, a = d a + (1 - d) x after every update, a = x after the first.

    The average is evaluated and published; updates go on from the weights, which checkpoints hold beside it.

    Source: Ramesh et al. 2021, appendix A.2: exponentially weighted iterate averaging.
    """

    moments: ClassVar[int] = 3
    averages: ClassVar[bool] = True

    decay: Fraction = 0.999
    """d (appendix A.2)."""

    def build(self, module: nn.Module) -> TorchOptimizer:
        """Return AdamW that keeps the average of each weight."""
        made = groups(module, self.lr, self.weight_decay, self.decayed)
        fused = all(parameter.device.type in {"cpu", "cuda"} for group in made for parameter in group["params"])
        return AveragingAdamW(made, self.decay, lr=self.lr, betas=self.betas, eps=self.eps, fused=fused or None)

    def __post_init__(self) -> None:
        """Check that moments are corrected (ValueError)."""
        if not self.bias_correction:
            raise ValueError("bias_correction: averaged weights are those of AdamW with it")


class AveragingAdamW(torch.optim.AdamW):
    """PyTorch's AdamW, which also keeps an average of each weight in its state."""

    def __init__(self, made: list[dict[str, Any]], decay: float, **given: Any) -> None:
        super().__init__(made, **given)
        self.decay = decay

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Make one update, and take its weights into the averages."""
        found = super().step(closure)
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if AVERAGE in state:
                    state[AVERAGE].lerp_(weight, 1.0 - self.decay)
                else:
                    state[AVERAGE] = weight.detach().clone()
        return found


@contextmanager
def averaged_weights(optimizer: TorchOptimizer) -> Iterator[None]:
    """Context manager: weights of which the optimizer keeps an average are that, and themselves again at the end."""
    pairs = [(weight, state[AVERAGE]) for weight, state in optimizer.state.items() if AVERAGE in state]
    kept = [weight.detach().clone() for weight, _ in pairs]
    with torch.no_grad():
        for weight, average in pairs:
            weight.copy_(average)
    try:
        yield
    finally:
        with torch.no_grad():
            for (weight, _), own in zip(pairs, kept, strict=True):
                weight.copy_(own)

"""Gradient scales of residual branches: each branch computes in float16, with gradients in a range of its own.

Where branches are scaled, all else is in float32: the residual stream, norms, embeddings and logits. The identity path
carries true gradients; what enters a branch in the backward pass is multiplied by the branch's scale, and what leaves
it is divided again, after numbers that are not finite are made 0, so that they reach no other branch.

Source: Ramesh et al. 2021 (arXiv:2102.12092), section 2.4, figure 4 and appendix D. Deviation: the norm of a branch,
which is in float32 in both, stands outside of the scaled part; its gradients are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genus.part import Count, Natural, Part, Positive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


UNSCALED = "unscaled"
"""Attribute of a branch's forward pass that scales: the one that does not."""


class GradientScale(Part):
    """How the gradient scale of a residual branch is set: s = s 2^(1 / doubling), or s 2^(-1 / halving) after a fault.

    A fault is a gradient of one of the branch's parameters that is not finite. Scales are for losses that are divided
    by the examples of one micro-batch; as losses are divided by those of the whole step, scales are multiplied by the
    number M of its micro-batches.

    Source: Ramesh et al. 2021, appendix D, guideline 1; the defaults are its numbers.
    """

    initial: Positive = 2.0**13
    """The first scale."""
    doubling: Count = 1000
    """Updates without a fault in which it doubles."""
    halving: Count = 2
    """Faults that halve it."""
    window: Natural = 125
    """Updates after a fault in which further ones leave it as it is."""
    smallest: Positive = 2.0**7
    """Lower bound."""
    largest: Positive = 2.0**24
    """Upper bound."""

    def __post_init__(self) -> None:
        """Check that the bounds hold the first scale (ValueError)."""
        if not self.smallest <= self.initial <= self.largest:
            raise ValueError("initial: is not between smallest and largest")

    @property
    def in_words(self) -> str:
        """The usual name."""
        return "gradient scales of branches"

    @property
    def longest_fall(self) -> int:
        """Updates in which a scale falls from its first value to the smallest, if each has a fault."""
        falls = 0
        while self.initial * 2.0 ** (-falls / self.halving) > self.smallest:
            falls += 1
        return (falls + 1) * max(1, self.window)

    def updated(self, scales: Tensor, since: Tensor, wrong: Tensor) -> tuple[Tensor, Tensor]:
        """Return scales (B,) and the updates since they last fell (B,), after an update in which some were `wrong`."""
        falls = wrong & (since >= self.window)
        down, up = 2.0 ** (-1 / self.halving), 2.0 ** (1 / self.doubling)
        moved = torch.where(falls, scales * down, torch.where(wrong, scales, scales * up))
        return moved.clamp(self.smallest, self.largest), torch.where(falls, 0, since + 1)


class _Enter(torch.autograd.Function):
    """The identity, whose backward pass takes what is not finite out of the gradient and divides it by the scale."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.float().nan_to_num(0.0, 0.0, 0.0) / ctx.scale, None


class _Leave(torch.autograd.Function):
    """The cast to float32, whose backward pass multiplies the gradient by the scale before it casts it back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        ctx.scale, ctx.dtype = scale, x.dtype
        return x.float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return (grad * ctx.scale).to(ctx.dtype), None


def scaled_branches(network: nn.Module) -> Iterator[tuple[nn.Module, GradientScale]]:
    """Yield the residual branches that say how their gradients are scaled, each once."""
    for module in network.modules():
        if isinstance(rule := getattr(module, "gradient_scale", None), GradientScale):
            yield module, rule


def scale_gradients(branch: nn.Module, scale: Tensor, dtype: torch.dtype = torch.float16) -> None:
    """Let a residual branch compute in 16 bits while it trains, with its gradients multiplied by a scale.

    Args:
        branch: a module whose first argument is (T, H) and alone has a gradient; the gradients of its parameters are
            multiplied by the scale too.
        scale: scalar tensor, which is read in each backward pass.
        dtype: of the products.
    """
    leave_gradients(branch)
    inner: Callable[..., Tensor] = branch.forward

    def forward(x: Tensor, *given: Any) -> Tensor:
        if not branch.training:
            return inner(x, *given)
        entered: Tensor = _Enter.apply(x, scale)  # type: ignore[no-untyped-call]
        with torch.autocast(x.device.type, dtype=dtype):
            found = inner(entered, *given)
        return _Leave.apply(found, scale)  # type: ignore[no-any-return, no-untyped-call]

    setattr(forward, UNSCALED, inner)
    branch.forward = forward


def leave_gradients(branch: nn.Module) -> None:
    """Undo `scale_gradients`, if it was done: a learner may be trained again, in another precision."""
    branch.forward = getattr(branch.forward, UNSCALED, branch.forward)

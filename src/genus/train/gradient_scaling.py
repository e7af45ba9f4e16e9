"""Gradient scaling: gradients of float16 kept within its range, and updates skipped where they leave it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch

from genus.train.precision import autocast

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from genus.objectives import Sums
    from genus.train.step import StepResult
    from genus.train.world import World

INITIAL, GROWTH, BACKOFF, INTERVAL = 2.0**16, 2.0, 0.5, 2000
"""The first loss scale, its factor after `INTERVAL` updates without a fault, and after a fault: the defaults of
`torch.amp.GradScaler`."""
SMALLEST = 1e-4
"""The loss scale below which a run ends: the default of fairseq's `--min-loss-scale`."""


class GradientScaling:
    """No scaling, for float32 and bfloat16, whose range is float32's: a loss or gradient that is not finite is final.

    All of it stays on the device, without host-device synchronization.
    """

    skips: ClassVar[bool] = False
    """Whether an update that is skipped is no failure."""

    def __init__(self, precision: str, world: World) -> None:
        self.precision, self.world = precision, world
        self.failed = torch.zeros((), device=world.device)
        """1 if this update, or one before it, cannot be made: the run must end."""
        self.skip = self.failed
        """1 if this update is not made (`found_inf` of optimizers)."""

    def forward_pass(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass."""
        return autocast(self.precision, self.world.device)

    def begin(self, micro_batches: int) -> None:
        """Prepare a step of so many micro-batches, of this process."""

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the loss that is back-propagated."""
        return loss

    def unscale(self, parameters: Sequence[Tensor]) -> None:
        """Divide the gradients by their scales, in place, once all of a step are summed."""

    def update(self, finite: Tensor) -> None:
        """Decide whether the update is made: `finite` says whether loss and gradient are."""
        self.failed.copy_((self.failed > 0) | ~finite)

    def measured(self) -> Sums:
        """Return what `metrics.jsonl` says of the scales."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """Return the state, which checkpoints hold."""
        return {}

    def restore(self, saved: dict[str, Tensor]) -> None:
        """Load what `tensors` returned; a run that was in another precision has nothing of it, and begins anew."""
        own = self.tensors()
        if saved.keys() == own.keys():
            for name, tensor in own.items():
                tensor.copy_(saved[name])

    def failure(self, result: StepResult) -> str:
        """Return in a phrase why the run ends at a step."""
        return f"the loss is {result.loss:g} and the gradient's norm {result.gradient_norm:g}"


class SkippingScale(GradientScaling):
    """Scaling for float16: an update whose gradients are not finite in any process is skipped, and counted."""

    skips: ClassVar[bool] = True

    def __init__(self, precision: str, world: World) -> None:
        super().__init__(precision, world)
        self.skip = torch.zeros((), device=world.device)
        self.skipped = torch.zeros((), device=world.device)
        """Updates of the run that were skipped."""

    def decide(self, wrong: Tensor, hopeless: Tensor) -> None:
        """Skip the update if gradients are wrong, and end the run if they will not be right again."""
        self.skipped += wrong
        self.failed.copy_((self.failed > 0) | hopeless)
        self.skip.copy_((self.failed > 0) | wrong)


class LossScale(SkippingScale):
    """Dynamic loss scaling for float16: the loss is multiplied by a scale, and the gradients are divided by it.

    The scale is doubled after 2000 updates in a row whose gradients were finite, and halved after one whose gradients
    were not, which is skipped: neither weights nor moments change. All processes decide alike. A scale below 1e-4 ends
    the run, since gradients that are not finite even so are not the scale's fault.

    Source: Micikevicius et al. 2018 (arXiv:1710.03740), sections 3.2 and 4; the rule is `torch.amp.GradScaler`'s.
    """

    def __init__(self, precision: str, world: World) -> None:
        super().__init__(precision, world)
        self.scale = torch.full((), INITIAL, device=world.device)
        self.since = torch.zeros((), device=world.device)
        """Updates since the scale changed."""

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the loss times the scale."""
        return loss * self.scale

    @torch.no_grad()
    def unscale(self, parameters: Sequence[Tensor]) -> None:
        """Divide all gradients by the scale; exactly, as it is a power of two."""
        multiply([weight.grad for weight in parameters if weight.grad is not None], 1.0 / self.scale)

    def update(self, finite: Tensor) -> None:
        """Skip an update that is not finite in any process, and set the next scale."""
        wrong = self.world.any(~finite)
        grown = ~wrong & (self.since + 1 == INTERVAL)
        larger = self.scale * GROWTH
        self.scale.copy_(torch.where(wrong, self.scale * BACKOFF, torch.where(grown & larger.isfinite(), larger,
                                                                              self.scale)))  # fmt: skip
        self.since.copy_(torch.where(wrong | grown, 0.0, self.since + 1))
        self.decide(wrong, self.scale < SMALLEST)

    def measured(self) -> Sums:
        """Return the scale after the update, and the number of updates that were skipped until then."""
        return {"loss_scale": self.scale, "skipped_updates": self.skipped}

    def tensors(self) -> dict[str, Tensor]:
        """Return scale and counts."""
        return {"scale": self.scale, "since": self.since, "skipped": self.skipped}

    def failure(self, result: StepResult) -> str:
        """Return that a smaller scale would not help."""
        return f"float16's gradients are not finite at a loss scale of {2 * SMALLEST:g} either, nor at any before"


def multiply(gradients: Iterable[Tensor], factor: Tensor) -> None:
    """Multiply gradients in place by a scalar tensor."""
    by_device: dict[torch.device, list[Tensor]] = {}
    for gradient in gradients:
        by_device.setdefault(gradient.device, []).append(gradient)
    for device, own in by_device.items():
        torch._foreach_mul_(own, factor.to(device))

"""Gradient noise scale: the batch from which on more rows hardly make a better step, measured while a run trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from genus.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from genus.train.world import World

NAME = "noise_scale"
"""Of its value in `metrics.jsonl`, in rows."""
DECAY = 0.99
"""Of the means over steps; numerator and denominator are averaged apart (McCandlish et al. 2018, appendix A.1)."""


class NoiseScale:
    """B = tr Σ / |G|² of the gradient G with covariance Σ over rows, from the first micro-batch and the whole step.

    With g of b rows, the first micro-batch, and G of B rows, the step, (B |G|² - b |g|²) / (B - b) estimates |G|², and
    (|g|² - |G|²) / (1 / b - 1 / B) tr Σ, both without bias. A batch of that size needs about twice as many steps as a
    boundless one, and about twice as many rows as a tiny one.

    Source: McCandlish et al. 2018 (arXiv:1812.06162), section 2.2 and appendix A.1.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.square = torch.zeros((), device=world.device)
        self.trace = torch.zeros((), device=world.device)
        self.small = torch.zeros((), device=world.device)
        self.rows, self.micro = 0, 0

    def first(self, parameters: Iterable[Tensor], rows: int, micro: int) -> None:
        """Take the gradient after the first of this process's micro-batches in a step.

        Args:
            parameters: those that are updated; their gradients are shares of that of the step, summed by no process.
            rows: of a micro-batch.
            micro: micro-batches of this process in a step.

        Raises:
            UsageError: there is one, so that no gradient of less than the step is known.
        """
        if micro < 2:
            raise UsageError("run.noise_scale: needs two micro-batches a step in each process; take a smaller "
                             "stages.micro_batch")  # fmt: skip
        (total,) = self.world.sum([float(micro)])
        self.rows, self.micro = rows, round(total)
        gradients = [weight.grad for weight in parameters if weight.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)).float())
        square = self.world.sum_tensor((norm * self.micro) ** 2) / self.world.size
        self.small = square.to(self.square.device)

    def of_step(self, norm: Tensor) -> Tensor:
        """Return the noise scale in rows after a step of a gradient of this norm; NaN where noise hides it."""
        large, b, whole = norm.detach().float() ** 2, self.rows, self.rows * self.micro
        square = (whole * large - b * self.small) / (whole - b)
        trace = (self.small - large) / (1 / b - 1 / whole)
        self.square = DECAY * self.square + (1 - DECAY) * square
        self.trace = DECAY * self.trace + (1 - DECAY) * trace
        scale = self.trace / self.square
        return torch.where((self.trace > 0) & (self.square > 0), scale, torch.full_like(scale, torch.nan))


def suggestion(scale: float, batch: int) -> str:
    """Return what a noise scale says about a batch, both in rows; empty if they are about the same."""
    if batch < scale / 4:
        return f"a batch of about {scale:,.0f} rows (stages.batch) takes fewer steps, for hardly more text"
    if batch > scale * 4:
        return f"a batch of about {scale:,.0f} rows (stages.batch) takes less text, for hardly more steps"
    return ""

"""Gradient clipping: by the norm of the whole gradient, or by that of each parameter's own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from genus.optim.pieces import norms, piece_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from genus.optim import Optimizer

SMALLEST = 1e-6
"""Added to norms by which gradients are divided, as in PyTorch's `clip_grad_norm_`."""


def clip_gradients(parameters: Sequence[nn.Parameter], choice: Optimizer) -> Tensor:
    """Scale gradients in place to the norm that the optimizer allows, and return their global norm before.

    There is no host-device synchronization. Norms are those of whole gradients, whatever pieces the processes hold.
    """
    longest = choice.clip_norm or math.inf
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    if any(map(piece_of, moved)):
        return _clip_pieces(moved, longest, together=choice.clip_by == "global")
    if choice.clip_by == "global":
        return nn.utils.clip_grad_norm_(parameters, longest)
    return nn.utils.get_total_norm([nn.utils.clip_grad_norm_(parameter, longest) for parameter in moved])


@torch.no_grad()
def _clip_pieces(moved: Sequence[nn.Parameter], longest: float, *, together: bool) -> Tensor:
    """Clip gradients of which this process holds pieces, together or each by itself."""
    gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
    lengths = norms(gradients, moved)
    total: Tensor = lengths.norm()
    if math.isfinite(longest):
        factors = (longest / ((total.expand_as(lengths) if together else lengths) + SMALLEST)).clamp(max=1.0)
        torch._foreach_mul_(gradients, list(factors))
    return total

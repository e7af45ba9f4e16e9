"""Gradient clipping: by the norm of the whole gradient, or by that of each parameter's own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from genus.optim import Optimizer


def clip_gradients(parameters: Sequence[nn.Parameter], choice: Optimizer) -> Tensor:
    """Scale gradients in place to the norm that the optimizer allows, and return their global norm before.

    There is no host-device synchronization.
    """
    longest = choice.clip_norm or math.inf
    if choice.clip_by == "global":
        return nn.utils.clip_grad_norm_(parameters, longest)
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    return nn.utils.get_total_norm([nn.utils.clip_grad_norm_(parameter, longest) for parameter in moved])

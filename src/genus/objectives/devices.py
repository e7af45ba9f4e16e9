"""The device of a learner, and moving it to another for a while."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a learner's parameters and buffers."""
    return next(each.device for tensors in (module.parameters(), module.buffers()) for each in tensors)


@contextmanager
def on(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Context manager: move a learner to a device, and back at the end."""
    if (before := device_of(module)) == device:
        yield
        return
    module.to(device)
    try:
        yield
    finally:
        module.to(before)


def widened(values: Tensor) -> Tensor:
    """Return numbers of 16 bits as float32, all others as they are."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values

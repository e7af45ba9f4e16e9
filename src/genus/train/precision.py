"""Mixed precision: float32, or autocast to bfloat16 or float16; `auto` is bfloat16 where the device is faster in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from genus.model.cpu import fast_bfloat16

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import nn


def number_format(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of a run's `precision` on a device; `auto` is bfloat16 where it is faster, else float32.

    In float8, which is of linear maps in training alone, it is bfloat16.
    """
    if precision == "auto":
        return torch.bfloat16 if _fast_bfloat16(device) else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float8": torch.bfloat16}
    return known[precision]


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast context for the forward pass; it is disabled for float32."""
    wanted = number_format(precision, device)
    return torch.autocast(device.type, dtype=wanted, enabled=wanted is not torch.float32)


def kept_format(module: nn.Module, precision: str) -> torch.dtype:
    """Return the dtype of keys and values that a forward pass under `autocast` leaves in a cache."""
    weight = next(module.parameters())
    wanted = number_format(precision, weight.device)
    return weight.dtype if wanted is torch.float32 else wanted


def _fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and fast_bfloat16()

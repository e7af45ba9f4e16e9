"""Mixed precision: float32, or bfloat16 autocast where the device supports bfloat16 natively."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import nn


def number_format(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of a run's `precision` on a device; `auto` is bfloat16 where it is native, else float32."""
    if precision == "auto":
        return torch.bfloat16 if _native_bfloat16(device) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast context for the forward pass; it is disabled for float32."""
    wanted = number_format(precision, device)
    return torch.autocast(device.type, dtype=wanted, enabled=wanted is not torch.float32)


def kept_format(module: nn.Module, precision: str) -> torch.dtype:
    """Return the dtype of keys and values that a forward pass under `autocast` leaves in a cache."""
    weight = next(module.parameters())
    wanted = number_format(precision, weight.device)
    return weight.dtype if wanted is torch.float32 else wanted


def _native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        can = torch.cpu.get_capabilities()
        return bool(can.get("avx512_bf16") or can.get("amx_bf16"))
    return False

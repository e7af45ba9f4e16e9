"""CPU performance settings of a process: memory allocator, oneDNN, and linear weights in half precision."""

from __future__ import annotations

import ctypes

import torch
from torch import nn

MMAP_MAX, TRIM_THRESHOLD = -4, -1
"""glibc's `M_MMAP_MAX` and `M_TRIM_THRESHOLD` (malloc.h)."""


def cast_linear_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Cast linear weights to autocast's dtype, for inference: the same results, without a cast in every call."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.to(dtype)


def tune_cpu_process() -> None:
    """Apply the settings of this module to the process: called once, by programs, not by library functions."""
    disable_malloc_trim()
    use_onednn_matmul()


def disable_malloc_trim() -> bool:
    """Make the C library keep freed memory, instead of returning it to the system and requesting it in every step.

    Each new page costs a page fault: 30 % of a small model's step time uncompiled, 8 % compiled. Return whether the C
    library has the setting (glibc).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, 2**31 - 1))


def use_onednn_matmul() -> bool:
    """Run float32 matrix products on CPUs in oneDNN, where that keeps float32 precision; return whether it does.

    Precision "medium" means bfloat16 products on CPUs with matrix units (AMX). On others it means oneDNN's float32,
    which takes half the time of PyTorch's default on AVX-512 and is as exact. So the choice depends on the CPU's flags.
    """
    can = torch.cpu.get_capabilities()
    chosen = bool(can.get("avx512_f")) and not can.get("amx_bf16")
    if chosen:
        torch.set_float32_matmul_precision("medium")
    return chosen

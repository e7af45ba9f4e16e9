"""What a device can compute at most: the denominator of model-FLOPs utilization (Chowdhery et al. 2022, appendix B)."""

from __future__ import annotations

import functools
import time

import torch

DENSE_BFLOAT16 = {"H200": 990e12, "H100": 990e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
"""FLOP/s without sparsity by a part of the device's name; source: the data sheets."""
SIDE = {"cpu": 1024, "cuda": 8192}
"""Of the square matrices to measure with: large enough to fill the device, small enough to take milliseconds."""
TRIES = 5


@functools.cache
def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return FLOP/s: the data sheet's where it is known, otherwise the best of a few products of square matrices."""
    if device.type == "cuda" and dtype is torch.bfloat16:
        name = torch.cuda.get_device_name(device)
        for part, rate in DENSE_BFLOAT16.items():
            if part in name:
                return rate
    side = SIDE[device.type]
    matrix = torch.ones(side, side, device=device, dtype=dtype)
    return 2 * side**3 / min(_seconds(matrix) for _ in range(TRIES))


def _seconds(matrix: torch.Tensor) -> float:
    """Return how long one product takes."""
    begun = time.perf_counter()
    (matrix @ matrix)[0, 0].item()
    return time.perf_counter() - begun

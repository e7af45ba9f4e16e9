"""What a device can compute at most: the denominator of model-FLOPs utilization (Chowdhery et al. 2022, appendix B)."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

DENSE_BFLOAT16 = {"H200": 990e12, "H100": 990e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
"""FLOP/s without sparsity by a part of the device's name; source: the data sheets."""
SIDE = {"cpu": 1024, "cuda": 8192}
"""Of the square matrices to measure with: large enough to fill the device, small enough to take milliseconds."""
TRIES = 5


@functools.cache
def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return FLOP/s: the data sheet's where it is known, otherwise the best of a few products of square matrices.

    On a CPU that of one thread in its own time, times the threads: what else the machine does takes nothing away.
    """
    if device.type == "cuda" and dtype is torch.bfloat16:
        name = torch.cuda.get_device_name(device)
        for part, rate in DENSE_BFLOAT16.items():
            if part in name:
                return rate
    matrix = torch.ones(SIDE[device.type], SIDE[device.type], device=device, dtype=dtype)
    if device.type != "cpu":
        return _rate(matrix, time.perf_counter)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return threads * _rate(matrix, time.thread_time)
    finally:
        torch.set_num_threads(threads)


def _rate(matrix: torch.Tensor, clock: Callable[[], float]) -> float:
    """Return FLOP/s of the fastest product."""
    seconds = []
    for _ in range(TRIES):
        begun = clock()
        (matrix @ matrix)[0, 0].item()
        seconds.append(clock() - begun)
    return float(2 * len(matrix) ** 3 / min(seconds))

"""Peak FLOP/s of a device, the denominator of model-FLOPs utilization (MFU; Chowdhery et al. 2022, appendix B)."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

import torch

from genus.devices import known_as

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE = {"cpu": 1024, "cuda": 8192}
"""Side of the square matrices for measurements: large enough to fill the device, small enough for milliseconds."""
TRIES = 5


@functools.cache
def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Return the peak FLOP/s: from the data sheet for a GPU in 16 bits, otherwise the best measured matrix product.

    It is None for a GPU in 16 bits without a known data sheet: a measured rate is below the peak and would overstate
    utilization. On a CPU it is the rate of one thread in its own CPU time, times the number of threads, so that other
    load on the machine does not lower it.
    """
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        known = known_as(torch.cuda.get_device_name(device))
        return None if known is None else known.flops
    matrix = torch.ones(SIDE[device.type], SIDE[device.type], device=device, dtype=dtype)
    if device.type != "cpu":
        return _rate(matrix, time.perf_counter)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return threads * _rate(matrix, time.thread_time)
    finally:
        torch.set_num_threads(threads)


def unknown_peak(device: torch.device, dtype: torch.dtype) -> str | None:
    """Return one line on why utilization is not reported on a device; None where it is."""
    if peak_flops(device, dtype) is not None:
        return None
    name = torch.cuda.get_device_name(device)
    return f"the peak rate of a {name} is not known, so model-FLOPs utilization is left out"


def _rate(matrix: torch.Tensor, clock: Callable[[], float]) -> float:
    """Return the FLOP/s of the fastest of `TRIES` matrix products."""
    seconds = []
    for _ in range(TRIES):
        begun = clock()
        (matrix @ matrix)[0, 0].item()
        seconds.append(clock() - begun)
    return float(2 * len(matrix) ** 3 / min(seconds))

"""What a device can compute at most: the denominator of model-FLOPs utilization (Chowdhery et al. 2022, appendix B)."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

DENSE_BFLOAT16 = {
    # nvidia.com/en-us/data-center/a100: 312 TFLOPS, the same for all forms
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    # nvidia.com/en-us/data-center/h100: 1,979 (SXM), 1,513 (PCIe) and 1,671 (NVL) TFLOPS with sparsity, twice the dense
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    # nvidia.com/en-us/data-center/h200: 1,979 TFLOPS with sparsity
    "NVIDIA H200": 989e12,
    # nvidia.com/en-us/data-center/l4: 242 TFLOPS with sparsity
    "NVIDIA L4": 121e12,
    # data sheet of L40 and L40S: 181.05 and 362.05 TFLOPS dense
    "NVIDIA L40": 181e12,
    "NVIDIA L40S": 362e12,
}
"""FLOP/s of matrix products in bfloat16 without sparsity, by the whole name that PyTorch gives a device."""
SIDE = {"cpu": 1024, "cuda": 8192}
"""Of the square matrices to measure with: large enough to fill the device, small enough to take milliseconds."""
TRIES = 5


@functools.cache
def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Return FLOP/s: of a GPU in bfloat16 the data sheet's, otherwise the best of a few products of square matrices.

    None for a GPU whose data sheet is not known here: a number that is measured lies below the peak, and utilization
    would flatter. On a CPU the rate is that of one thread in its own time, times the threads: what else the machine
    does takes nothing away.
    """
    if device.type == "cuda" and dtype is torch.bfloat16:
        return DENSE_BFLOAT16.get(torch.cuda.get_device_name(device))
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
    """Return one line on why utilization is not told on a device; None where it is."""
    if peak_flops(device, dtype) is not None:
        return None
    name = torch.cuda.get_device_name(device)
    return f"the peak rate of a {name} is not known, so model-FLOPs utilization is left out"


def _rate(matrix: torch.Tensor, clock: Callable[[], float]) -> float:
    """Return FLOP/s of the fastest product."""
    seconds = []
    for _ in range(TRIES):
        begun = clock()
        (matrix @ matrix)[0, 0].item()
        seconds.append(clock() - begun)
    return float(2 * len(matrix) ** 3 / min(seconds))

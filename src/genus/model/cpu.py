"""CPU performance: memory allocator, oneDNN, linear weights in half precision, products with few rows."""

from __future__ import annotations

import ctypes
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.model.roles import in_half_precision, linear_maps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

MMAP_MAX, TRIM_THRESHOLD = -4, -1
"""glibc's `M_MMAP_MAX` and `M_TRIM_THRESHOLD` (malloc.h)."""


def cast_linear_weights(network: nn.Module, dtype: torch.dtype) -> None:
    """Cast the weights of layers to autocast's dtype, for inference: the same results, without a cast in every call."""
    for name, role, part in linear_maps(network):
        if in_half_precision(name, role):
            part.to(dtype)


def without_onednn() -> AbstractContextManager[None]:
    """Return the context in which float32 products are made by PyTorch's default library (`use_onednn_matmul`).

    oneDNN is made for large products; to begin one takes it 20 microseconds, in fused attention one a head and block.
    """
    return nullcontext() if torch.get_float32_matmul_precision() == "highest" else _default_library()


@contextmanager
def _default_library() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def lay_by_columns(network: nn.Module) -> None:
    """Lay the weights of a network's layers out by columns in memory, for inference in float32; shapes and values stay.

    Where PyTorch's default library multiplies, products of few rows then take 45 % (10 rows), 35 % (24) to 15 % (128)
    less time, and those of 512 the same, for matrices of 384 x 1,536 (MKL, Intel Xeon). Weights that are laid out so
    stay as they are, so that adapters go on sharing those of their base.
    """
    if torch.get_float32_matmul_precision() != "highest":
        return
    for _, _, part in linear_maps(network):
        weight = part.get_parameter("weight")
        if weight.device.type == "cpu" and weight.dtype == torch.float32 and not weight.t().is_contiguous():
            weight.data = weight.data.t().contiguous().t()


FEW_ROWS, BLOCK = 4, 64
"""Most rows that a matrix is multiplied by block by block, and rows of the matrix in a block."""


def few_rows_linear(x_ME: Tensor, weight_VE: Tensor, bias_V: Tensor | None = None) -> Tensor:
    """Return x Wᵀ + b for inference; of few rows x in float32 on a CPU, as a batch of products with blocks of W.

    A whole matrix and a vector are read at half to a sixth of the speed (AMD EPYC): by oneDNN (`use_onednn_matmul`),
    which is made for many rows, and large ones by PyTorch's default too.
    """
    few = x_ME.shape[0] <= FEW_ROWS and x_ME.device.type == "cpu" and x_ME.dtype == weight_VE.dtype == torch.float32
    size = weight_VE.shape[0]
    whole = size - size % BLOCK
    if not few or not whole or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return F.linear(x_ME, weight_VE, bias_V)
    blocks = weight_VE[:whole].view(-1, BLOCK, weight_VE.shape[1])
    with without_onednn():
        found = torch.bmm(blocks, x_ME.t()[None].expand(whole // BLOCK, -1, -1)).view(whole, -1).t()
    if whole < size:
        found = torch.cat([found, F.linear(x_ME, weight_VE[whole:])], -1)
    return found if bias_V is None else found + bias_V


class SingleRowLinear(nn.Linear):
    """A linear map that multiplies single rows, the tokens of one text, by `few_rows_linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """Forward pass: return x Wᵀ + b."""
        product = few_rows_linear if input.shape[0] == 1 and input.dim() == 2 else F.linear
        return product(input, self.weight, self.bias)


@contextmanager
def single_rows(module: nn.Module) -> Iterator[None]:
    """Make the linear maps of a module `SingleRowLinear`, for the time of the context.

    Two rows or more are multiplied faster as they are, but for the output layer's.
    """
    maps = [part for part in module.modules() if type(part) is nn.Linear]
    for part in maps:
        part.__class__ = SingleRowLinear
    try:
        yield
    finally:
        for part in maps:
            part.__class__ = nn.Linear


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
    """Run float32 matrix products on CPUs in oneDNN, where that is faster and as exact; return whether it is.

    Precision "medium" means bfloat16 products on CPUs with matrix units (AMX). On others it means oneDNN's float32,
    which is as exact, and on AMD's with AVX-512 takes half the time of PyTorch's default, MKL. Intel's are faster with
    MKL: MiniLM's products with 16 rows take 13 % less time, with 2,048 rows 8 % (Xeon without AMX).
    """
    can = torch.cpu.get_capabilities()
    chosen = bool(can.get("avx512_f")) and not can.get("amx_bf16") and not _of_intel()
    if chosen:
        torch.set_float32_matmul_precision("medium")
    return chosen


def fast_bfloat16() -> bool:
    """Return whether a step in bfloat16 is faster than one in float32: with matrix units (AMX), or on AMD's AVX-512.

    Intel's AVX-512 alone multiplies bfloat16 no faster than float32, and casts besides: a training step of
    `genus/mini` takes 191 ms in place of 130 (Xeon without AMX, two threads).
    """
    can = torch.cpu.get_capabilities()
    return bool(can.get("amx_bf16") or (can.get("avx512_bf16") and not _of_intel()))


def _of_intel(path: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the CPU is Intel's; where the system does not tell, it is not."""
    try:
        return "GenuineIntel" in path.read_text(encoding="utf-8")
    except OSError:
        return False

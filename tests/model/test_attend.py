"""Every way of computing attention against its definition, and against numerical derivatives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genus.batch import Packed
from genus.model.attention.kernels import attend, attend_reference
from genus.model.attention.masks import AttentionMask, Banded, Causal, Full, Prefix
from genus.model.attention.plan import AttentionPlan, Kernel, Side, choose, plan_attention

ROWS = {
    "one sequence a row": [[12], [12]],
    "several a row": [[5, 7], [1, 2, 3, 6]],
    "dead cells": [[5, 4], [11]],
}
DOUBLE = 1e-12
"""Rounding of sums of a dozen float64 products."""
HALF = 0.02
"""Two to three units of bfloat16's 8 bits, on outputs of size 1."""
Make = Callable[..., Packed]


kernels = pytest.mark.parametrize(
    "way",
    [
        "math",
        "sdpa",
        pytest.param("flex", marks=pytest.mark.filterwarnings("ignore:flex_attention called without:UserWarning")),
    ],
)
"""FlexAttention is compiled on GPUs only."""


def drawn(packed: Packed, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(
        torch.randn(len(packed.ids), 3, 4, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3)
    )  # type: ignore[return-value]


def plan_of(kernel: Kernel, packed: Packed, visibility: AttentionMask) -> AttentionPlan:
    """Return the plan of a kernel, also where it would not be chosen, with a mask."""
    side = Side.of(packed)
    return plan_attention(side, side, visibility, torch.float64, kernel=kernel)


def self_plan(packed: Packed, visibility: AttentionMask, dropout: float = 0.0) -> AttentionPlan:
    """Return the plan that a layer makes for itself on a CPU."""
    side = Side.of(packed)
    return plan_attention(side, side, visibility, torch.float64, dropout=dropout, packed=packed)


def reference(q: Tensor, k: Tensor, v: Tensor, packed: Packed, visibility: AttentionMask) -> Tensor:
    return attend_reference(q, k, v, Side.of(packed), Side.of(packed), visibility)


def same(ours: Tensor, expected: Tensor, packed: Packed, **bounds: float) -> None:
    """Compare what real tokens get; what padding gets nobody reads."""
    real = packed.sequence >= 0
    torch.testing.assert_close(ours[real], expected[real], **bounds)


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS.keys())
@pytest.mark.parametrize("visibility", [Full(), Causal()], ids=lambda rule: type(rule).__name__)
@kernels
def test_a_way_agrees_with_the_definition(
    make_packed: Make, rows: list[list[int]], visibility: AttentionMask, way: Kernel
) -> None:
    packed = make_packed(rows, 12, torch.ones(24, dtype=torch.long))
    q, k, v = drawn(packed)
    ours = attend(q, k, v, plan_of(way, packed, visibility))
    same(ours, reference(q, k, v, packed, visibility), packed, atol=DOUBLE, rtol=0)


@kernels
def test_a_way_agrees_in_half_precision(make_packed: Make, way: Kernel) -> None:
    packed = make_packed(ROWS["several a row"], 12, torch.ones(24, dtype=torch.long))
    half = attend(*drawn(packed, torch.bfloat16), plan_of(way, packed, Full()))
    exact = reference(*drawn(packed), packed, Full())
    torch.testing.assert_close(half.double(), exact, atol=HALF, rtol=HALF)


@pytest.mark.parametrize("length", [12, 600])
def test_a_causal_view_without_a_mask_agrees(make_packed: Make, length: int) -> None:
    """Long rows that are one sequence each take the fused kernel's own causal rule."""
    packed = make_packed([[length], [length]], length, torch.ones(2 * length, dtype=torch.long))
    plan = self_plan(packed, Causal())
    assert (plan.mask is None) == (length == 600)
    q, k, v = drawn(packed)
    same(attend(q, k, v, plan), reference(q, k, v, packed, Causal()), packed, atol=DOUBLE, rtol=0)


def test_rows_of_one_sequence_need_no_mask(make_packed: Make) -> None:
    packed = make_packed([[12], [12]], 12, torch.ones(24, dtype=torch.long))
    assert self_plan(packed, Full()).mask is None
    padded = make_packed([[12], [11]], 12, torch.ones(24, dtype=torch.long))
    assert self_plan(padded, Full()).mask is not None


def test_the_kernel_depends_on_device_precision_and_mask() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose(cpu, torch.bfloat16, 128, 0.0, Full()) == "math"
    assert choose(cpu, torch.bfloat16, 1024, 0.0, Full()) == "sdpa"
    assert choose(cpu, torch.bfloat16, 1024, 0.1, Full()) == "math"
    for rule in (Full(), Causal(), Banded(width=3), Prefix()):
        assert choose(cuda, torch.bfloat16, 512, 0.0, rule) == "varlen"
        assert choose(cuda, torch.bfloat16, 512, 0.1, rule) == "varlen"
        assert choose(cuda, torch.float32, 512, 0.0, rule) == "sdpa"
    for rule in (Causal(), Prefix()):
        assert choose(cuda, torch.bfloat16, 512, 0.0, rule, plain=False) == "flex"
        assert choose(cuda, torch.bfloat16, 512, 0.1, rule, plain=False) == "sdpa"


@pytest.mark.parametrize("way", ["math", "sdpa"])
@pytest.mark.parametrize("visibility", [Full(), Causal()], ids=lambda rule: type(rule).__name__)
def test_gradients_agree_with_differences(make_packed: Make, way: Kernel, visibility: AttentionMask) -> None:
    packed = make_packed([[2, 3], [4]], 5, torch.ones(10, dtype=torch.long))
    plan = plan_of(way, packed, visibility)
    inputs = tuple(x.requires_grad_() for x in drawn(packed))
    assert torch.autograd.gradcheck(lambda q, k, v: attend(q, k, v, plan), inputs)


def test_probabilities_are_dropped_out_at_their_rate(make_packed: Make) -> None:
    """With values of 1 an output is the sum of what is left of the probabilities: 1 in the mean, and not always 1."""
    packed = make_packed([[200]] * 8, 200, torch.ones(1600, dtype=torch.long))
    q, k, v = drawn(packed)
    torch.manual_seed(0)
    out = attend(q * 0, k, torch.ones_like(v), self_plan(packed, Full(), dropout=0.25))
    assert abs(out.mean().item() - 1) < 0.01
    assert 0.02 < out.std().item() < 0.06  # sqrt(0.25 / 0.75 / 200) = 0.041

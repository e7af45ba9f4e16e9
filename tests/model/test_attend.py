"""Every way of computing attention against its definition, and against numerical derivatives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genus.batch import Packed
from genus.model.attend import View, Way, allowed, attend, attend_reference, choose, view
from genus.model.visibility import Causal, Full, Visibility

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


def drawn(packed: Packed, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(
        torch.randn(len(packed.ids), 3, 4, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3)
    )  # type: ignore[return-value]


def seen_by(way: Way, packed: Packed, visibility: Visibility) -> View:
    """Return the view of a way, also where it would not be chosen."""
    alone = packed.one_per_row and packed.tokens == packed.ids.numel()
    mask = allowed(packed, visibility, alone)
    return View(packed, way, 0.0, False, None if mask is None else mask[:, None])


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS.keys())
@pytest.mark.parametrize("visibility", [Full(), Causal()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("way", ["explicit", "fused"])
def test_a_way_agrees_with_the_definition(
    make_packed: Make, rows: list[list[int]], visibility: Visibility, way: Way
) -> None:
    packed = make_packed(rows, 12, torch.ones(24, dtype=torch.long))
    q, k, v = drawn(packed)
    ours = attend(q, k, v, seen_by(way, packed, visibility))
    torch.testing.assert_close(ours, attend_reference(q, k, v, packed, visibility), atol=DOUBLE, rtol=0)


@pytest.mark.parametrize("way", ["explicit", "fused"])
def test_a_way_agrees_in_half_precision(make_packed: Make, way: Way) -> None:
    packed = make_packed(ROWS["several a row"], 12, torch.ones(24, dtype=torch.long))
    half = attend(*drawn(packed, torch.bfloat16), seen_by(way, packed, Full()))
    exact = attend_reference(*drawn(packed), packed, Full())
    torch.testing.assert_close(half.double(), exact, atol=HALF, rtol=HALF)


@pytest.mark.parametrize("length", [12, 600])
def test_a_causal_view_without_a_mask_agrees(make_packed: Make, length: int) -> None:
    """Long rows that are one sequence each take the fused kernel's own causal rule."""
    packed = make_packed([[length], [length]], length, torch.ones(2 * length, dtype=torch.long))
    seen = view(packed, Causal(), torch.float64, 0.0)
    assert (seen.mask is None) == (length == 600)
    q, k, v = drawn(packed)
    torch.testing.assert_close(attend(q, k, v, seen), attend_reference(q, k, v, packed, Causal()), atol=DOUBLE, rtol=0)


def test_rows_of_one_sequence_need_no_mask(make_packed: Make) -> None:
    packed = make_packed([[12], [12]], 12, torch.ones(24, dtype=torch.long))
    assert view(packed, Full(), torch.float32, 0.0).mask is None
    padded = make_packed([[12], [11]], 12, torch.ones(24, dtype=torch.long))
    assert view(padded, Full(), torch.float32, 0.0).mask is not None


def test_the_way_hangs_on_device_and_precision() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose(cpu, torch.bfloat16, 128, 0.0, Full()) == "explicit"
    assert choose(cpu, torch.bfloat16, 1024, 0.0, Full()) == "fused"
    assert choose(cpu, torch.bfloat16, 1024, 0.1, Full()) == "explicit"
    assert choose(cuda, torch.bfloat16, 512, 0.0, Full()) == "variable"
    assert choose(cuda, torch.bfloat16, 512, 0.1, Full()) == "fused"
    assert choose(cuda, torch.float32, 512, 0.0, Full()) == "fused"
    assert choose(cuda, torch.bfloat16, 512, 0.0, Causal()) == "fused"


@pytest.mark.parametrize("way", ["explicit", "fused"])
@pytest.mark.parametrize("visibility", [Full(), Causal()], ids=lambda rule: type(rule).__name__)
def test_gradients_agree_with_differences(make_packed: Make, way: Way, visibility: Visibility) -> None:
    packed = make_packed([[2, 3], [4]], 5, torch.ones(10, dtype=torch.long))
    seen = seen_by(way, packed, visibility)
    inputs = tuple(x.requires_grad_() for x in drawn(packed))
    assert torch.autograd.gradcheck(lambda q, k, v: attend(q, k, v, seen), inputs)


def test_probabilities_are_dropped_out_at_their_rate(make_packed: Make) -> None:
    """With values of 1 an output is the sum of what is left of the probabilities: 1 in the mean, and not always 1."""
    packed = make_packed([[200]] * 8, 200, torch.ones(1600, dtype=torch.long))
    q, k, v = drawn(packed)
    torch.manual_seed(0)
    out = attend(q * 0, k, torch.ones_like(v), view(packed, Full(), torch.float64, 0.25))
    assert abs(out.mean().item() - 1) < 0.01
    assert 0.02 < out.std().item() < 0.06  # sqrt(0.25 / 0.75 / 200) = 0.041

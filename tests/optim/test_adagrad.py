"""Adagrad against its formula."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genus.optim.adagrad import Adagrad

EXACT = 1e-12
"""A handful of float64 operations."""


@pytest.mark.parametrize("initial", [0.0, 0.1])
def test_three_updates_by_hand(initial: float) -> None:
    module = nn.Linear(2, 2, bias=True).double()
    start = [parameter.detach().clone() for parameter in module.parameters()]
    optimizer = Adagrad(lr=0.05, eps=1e-3, initial=initial).build(module)
    sums = [torch.full_like(weight, initial) for weight in start]
    for step in range(1, 4):
        for number, parameter in enumerate(module.parameters()):
            parameter.grad = torch.full_like(parameter, 0.5 * step)
            sums[number] += (0.5 * step) ** 2
            start[number] -= 0.05 * 0.5 * step / (sums[number].sqrt() + 1e-3)
        optimizer.step()
    for parameter, expected in zip(module.parameters(), start, strict=True):
        torch.testing.assert_close(parameter.detach(), expected, rtol=EXACT, atol=EXACT)


def test_one_sum_a_weight_is_kept() -> None:
    module = nn.Linear(3, 3)
    optimizer = Adagrad(lr=0.1).build(module)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    kept = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    assert [value.shape for value in kept] == [parameter.shape for parameter in module.parameters()]
    assert Adagrad.moments == 1

"""Gated feed-forward networks: the paper's equation, and what they cost."""

from __future__ import annotations

import pytest
import torch

from genus.model.activation import Relu
from genus.model.feedforward.gated import GatedMLP


@pytest.mark.parametrize("bias", [False, True])
def test_the_equation_of_the_paper(bias: bool) -> None:
    """FFN_ReGLU(x) = (max(0, x W) * x V) W2 (Shazeer 2020, equation 6), with biases where asked."""
    torch.manual_seed(0)
    layer = GatedMLP(size=6, activation=Relu(), bias=bias).build(4).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    gate, inner, out = ((one.weight, one.bias if bias else 0.0) for one in (layer.gate, layer.inner, layer.out))
    first = (x @ gate[0].T + gate[1]).clamp(min=0)
    expected = (first * (x @ inner[0].T + inner[1])) @ out[0].T + out[1]
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [False, True])
def test_its_parameters_are_counted(bias: bool) -> None:
    """Three maps, of as many parameters as the module has; 2 FLOPs per weight and token."""
    choice = GatedMLP(size=6, bias=bias)
    cost = choice.cost(4)
    assert cost.parameters == sum(weight.numel() for weight in choice.build(4).parameters())
    assert cost.flops == 2 * 3 * 4 * 6

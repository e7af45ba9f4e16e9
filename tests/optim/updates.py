"""A small module with a matrix and a bias, and updates of it in float64 by whoever makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer as TorchOptimizer

UPDATES = 20
FLOAT64 = 1e-12
"""Twenty float64 updates of numbers near 1, whose sums are taken in another order."""
FACTORS = np.linspace(0.1, 1.0, UPDATES)
"""What a schedule would multiply the peak rate by."""

Weights = dict[str, np.ndarray]


def layer() -> nn.Linear:
    """Return a layer of 4 to 3 whose bias is 0, as where training begins."""
    torch.manual_seed(0)
    made = nn.Linear(4, 3).double()
    nn.init.zeros_(made.bias)
    return made


def gradients() -> list[Weights]:
    """Return a gradient of every parameter for every update, of sizes that differ."""
    rng = np.random.default_rng(0)
    return [{"weight": 3 * rng.normal(size=(3, 4)), "bias": rng.normal(size=3) / 5} for _ in range(UPDATES)]


def weights(module: nn.Module) -> Weights:
    return {name: weight.detach().numpy().copy() for name, weight in module.named_parameters()}


def run(module: nn.Module, optimizer: TorchOptimizer, factors: np.ndarray = FACTORS) -> Weights:
    """Make an update with each gradient, at rates as the training loop sets them; return the weights."""
    for gradient, factor in zip(gradients(), factors, strict=True):
        for name, weight in module.named_parameters():
            weight.grad = torch.from_numpy(gradient[name].copy())
        for group in optimizer.param_groups:
            group["lr"] = group.get("base_lr", group.get("initial_lr", group["lr"])) * factor
        optimizer.step()
    return weights(module)


def transcribed(update: Callable[[int, str, np.ndarray, np.ndarray, float], np.ndarray]) -> Weights:
    """Return the weights after updates x = update(t, name, x, gradient, factor)."""
    found = weights(layer())
    for t, (gradient, factor) in enumerate(zip(gradients(), FACTORS, strict=True), start=1):
        found = {name: update(t, name, x, gradient[name], factor) for name, x in found.items()}
    return found


def same(found: Weights, wanted: Weights, tolerance: float = FLOAT64) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=tolerance, atol=tolerance, err_msg=name)

"""Adafactor against algorithms 4 and 5 of its paper, taken slowly, and against PyTorch's and transformers' own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from updates import UPDATES, layer, run, same, transcribed

from genus.optim.adafactor import Adafactor

CHOICE = Adafactor(lr=0.05)
ONES = np.ones(UPDATES)
SINGLE = 1e-4
"""PyTorch's takes its roots and rates in its own order, and clamps rows' sums at ε₁."""


def root_mean_square(x: np.ndarray) -> float:
    return float(np.sqrt((x**2).mean()))


def by_the_paper(choice: Adafactor):
    """Algorithms 4 (matrices, by sums) and 5 (vectors), with the rate of section 8 and the clipping of section 6."""
    r, c, v = {}, {}, {}

    def update(t: int, name: str, x: np.ndarray, g: np.ndarray, factor: float) -> np.ndarray:
        beta, squares = 1 - t**-choice.moment_decay, g**2 + choice.floor
        if x.ndim == 2:
            r[name] = beta * r.get(name, 0) + (1 - beta) * squares.sum(1)
            c[name] = beta * c.get(name, 0) + (1 - beta) * squares.sum(0)
            second = np.outer(r[name], c[name]) / r[name].sum()
        else:
            second = v[name] = beta * v.get(name, 0) + (1 - beta) * squares
        u = g / np.sqrt(second)
        u = u / max(1, root_mean_square(u) / choice.update_clip)
        rate = choice.lr * factor
        rate = min(rate, 1 / np.sqrt(t)) if choice.relative else rate
        scale = max(choice.least_scale, root_mean_square(x)) if choice.scaled else 1.0
        return x - rate * (scale * u + (choice.weight_decay * x if name == "weight" else 0))

    return update


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_equals_the_paper(relative: bool, scaled: bool, weight_decay: float) -> None:
    lr = 0.3 if relative else 0.05  # 0.3 is past 1 / √t from update 12 on
    choice = replace(CHOICE, lr=lr, relative=relative, scaled=scaled, weight_decay=weight_decay)
    module = layer()
    same(run(module, choice.build(module)), transcribed(by_the_paper(choice)))


def test_equals_pytorch() -> None:
    ours, other = layer(), layer()
    choice = replace(CHOICE, lr=0.3)
    theirs = torch.optim.Adafactor(other.parameters(), lr=choice.lr, eps=(choice.floor, choice.least_scale))
    same(run(ours, choice.build(ours), ONES), run(other, theirs, ONES), tolerance=SINGLE)


def test_equals_transformers() -> None:
    optimization = pytest.importorskip("transformers.optimization")
    ours, other = layer(), layer()
    choice = replace(CHOICE, relative=False)
    options = {"scale_parameter": True, "relative_step": False, "warmup_init": False}
    theirs = optimization.Adafactor(other.parameters(), lr=choice.lr, **options)
    same(run(ours, choice.build(ours), ONES), run(other, theirs, ONES), tolerance=SINGLE)


def test_a_matrix_keeps_but_its_rows_and_columns() -> None:
    module = layer()
    optimizer = CHOICE.build(module)
    run(module, optimizer)
    tensors = {
        part: {name: value for name, value in optimizer.state[part].items() if isinstance(value, torch.Tensor)}
        for part in (module.weight, module.bias)
    }
    kept = {name: tuple(value.shape) for name, value in tensors[module.weight].items()}
    assert kept == {"rows": (3, 1), "columns": (1, 4)}
    assert {name: tuple(value.shape) for name, value in tensors[module.bias].items()} == {"second": (3,)}

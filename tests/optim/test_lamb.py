"""LAMB against algorithm 2 of its paper, taken slowly, and against an independent implementation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from updates import UPDATES, layer, run, same, transcribed

from genus.optim.lamb import LAMB

CHOICE = LAMB(lr=0.02, betas=(0.9, 0.98), eps=1e-4, weight_decay=0.1)
THEIR_EPS = 1e-10
"""Twenty times 1e-12 on lengths of about 1."""


def by_the_paper(choice: LAMB):
    """Algorithm 2 of arXiv:1904.00962, with φ the identity; biases without ratio and decay (lamb_optimizer.py)."""
    (b1, b2), m, v = choice.betas, {}, {}

    def update(t: int, name: str, x: np.ndarray, g: np.ndarray, factor: float) -> np.ndarray:
        m[name] = b1 * m.get(name, 0) + (1 - b1) * g
        v[name] = b2 * v.get(name, 0) + (1 - b2) * g**2
        fixed = (m[name] / (1 - b1**t), v[name] / (1 - b2**t)) if choice.bias_correction else (m[name], v[name])
        r = fixed[0] / (np.sqrt(fixed[1]) + choice.eps)
        if name == "bias":
            return x - factor * choice.lr * r
        step = r + choice.weight_decay * x
        return x - factor * choice.lr * np.linalg.norm(x) / np.linalg.norm(step) * step

    return update


@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_equals_the_paper(bias_correction: bool, weight_decay: float) -> None:
    choice = replace(CHOICE, bias_correction=bias_correction, weight_decay=weight_decay)
    module = layer()
    same(run(module, choice.build(module)), transcribed(by_the_paper(choice)))


def test_equals_another_implementation() -> None:
    """pytorch-optimizer's, which corrects no bias so, on the matrix alone, for it gives biases a ratio too."""
    theirs = pytest.importorskip("pytorch_optimizer").Lamb
    choice = replace(CHOICE, eps=1e-12, bias_correction=False)  # they add eps to the update's length too
    ours, other = layer(), layer()
    options = {"betas": choice.betas, "eps": choice.eps, "weight_decay": choice.weight_decay}
    optimizer = theirs(other.parameters(), lr=choice.lr, weight_decouple=False, adam_debias=True, **options)
    found = run(ours, choice.build(ours), np.ones(UPDATES)), run(other, optimizer, np.ones(UPDATES))
    same(*({"weight": each["weight"]} for each in found), tolerance=THEIR_EPS)


def test_a_tensor_of_zeros_leaves_zero() -> None:
    """Its length is 0, and a share of it would be none."""
    module = layer()
    torch.nn.init.zeros_(module.weight)
    assert run(module, CHOICE.build(module))["weight"].all()

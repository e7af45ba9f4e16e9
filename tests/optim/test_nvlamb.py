"""NVLAMB against its description, taken slowly, and against an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from updates import FACTORS, UPDATES, gradients, layer, run, same, weights

from genus.optim.nvlamb import NVLAMB

THEIR_LENGTH = 1e-6
"""They take it in float32, which rounds it by 6e-8, twenty times over."""
CHOICE = NVLAMB(lr=0.02, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1)


def test_equals_its_description() -> None:
    (b1, b2), found = CHOICE.betas, weights(layer())
    m, v = ({name: np.zeros_like(x) for name, x in found.items()} for _ in range(2))
    for t, (gradient, factor) in enumerate(zip(gradients(), FACTORS, strict=True), start=1):
        length = np.sqrt(sum((g**2).sum() for g in gradient.values()))
        for name, x in found.items():
            g = gradient[name] / length
            m[name], v[name] = b1 * m[name] + (1 - b1) * g, b2 * v[name] + (1 - b2) * g**2
            step = m[name] / (1 - b1**t) / (np.sqrt(v[name] / (1 - b2**t)) + CHOICE.eps)
            step += CHOICE.weight_decay * x if name == "weight" else 0.0
            ratio = np.linalg.norm(x) / np.linalg.norm(step) if x.any() else 1.0  # the bias is 0 at first
            found[name] = x - factor * CHOICE.lr * ratio * step
    module = layer()
    same(run(module, CHOICE.build(module)), found)


def test_the_length_of_the_gradient_does_not_matter() -> None:
    """So a gradient that is clipped before makes the same update."""
    moved = []
    for size in (1.0, 1e3):
        module = layer()
        optimizer = CHOICE.build(module)
        for weight in module.parameters():
            weight.grad = torch.full_like(weight, size)
        optimizer.step()
        moved.append(weights(module))
    same(*moved)


def test_no_gradient_at_all_is_no_update_of_biases() -> None:
    module = layer()
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight)
    CHOICE.build(module).step()
    assert not module.bias.any()
    assert bool(torch.isfinite(module.weight).all())


def test_equals_another_implementation() -> None:
    """pytorch-optimizer's LAMB, without bias correction; `pre_norm` divides gradients by a length over 1."""
    theirs = pytest.importorskip("pytorch_optimizer").Lamb
    assert all(sum((g**2).sum() for g in gradient.values()) > 1 for gradient in gradients())
    ours, other = layer(), layer()
    mine = NVLAMB(lr=0.02, betas=(0.9, 0.98), eps=1e-12, weight_decay=0.1)
    built = mine.build(ours)
    built.bias_correction = False
    optimizer = theirs(
        [{"params": [other.weight], "weight_decay": 0.1}, {"params": [other.bias], "weight_decay": 0.0}],
        lr=mine.lr,
        betas=mine.betas,
        eps=mine.eps,
        weight_decouple=False,
        adam_debias=True,
        pre_norm=True,
        max_grad_norm=1.0,
    )
    found, wanted = (run(module, each, np.ones(UPDATES)) for module, each in ((ours, built), (other, optimizer)))
    same(found, wanted, tolerance=THEIR_LENGTH)

"""Lion against algorithm 2 of its paper, taken slowly, and against the package of an independent author."""

from __future__ import annotations

import numpy as np
import pytest
from updates import UPDATES, layer, run, same, transcribed

from genus.optim.lion import Lion

CHOICE = Lion(lr=0.01, weight_decay=0.1)


def test_equals_the_paper() -> None:
    (b1, b2), m = CHOICE.betas, {}

    def update(t: int, name: str, x: np.ndarray, g: np.ndarray, factor: float) -> np.ndarray:
        past = m.get(name, np.zeros_like(x))
        m[name] = b2 * past + (1 - b2) * g
        decay = CHOICE.weight_decay if name == "weight" else 0.0
        return x - factor * CHOICE.lr * (np.sign(b1 * past + (1 - b1) * g) + decay * x)

    module = layer()
    same(run(module, CHOICE.build(module)), transcribed(update))


def test_equals_another_implementation() -> None:
    theirs = pytest.importorskip("lion_pytorch").Lion
    ours, other = layer(), layer()
    kinds = [{"params": [other.weight], "weight_decay": CHOICE.weight_decay}, {"params": [other.bias]}]
    optimizer = theirs(kinds, lr=CHOICE.lr, betas=CHOICE.betas)
    ones = np.ones(UPDATES)
    same(run(ours, CHOICE.build(ours), ones), run(other, optimizer, ones))

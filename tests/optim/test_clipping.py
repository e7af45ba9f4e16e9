"""Clipped gradients: one norm for all of them, or one for each parameter, as BertAdam clips them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genus.optim.adamw import AdamW
from genus.optim.clipping import clip_gradients

LENGTHS = (3.0, 0.5, 4.0)
"""Norms of the gradients of three parameters; a fourth has none."""


def parameters() -> list[nn.Parameter]:
    made = []
    for length in (*LENGTHS, None):
        parameter = nn.Parameter(torch.zeros(4, 2))
        if length is not None:
            gradient = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()
            parameter.grad = gradient * (length / gradient.norm())
        made.append(parameter)
    return made


@pytest.mark.parametrize(
    ("choice", "after"),
    [
        (AdamW(lr=1.0, clip_norm=1.0, clip_by="tensor"), (1.0, 0.5, 1.0)),
        (AdamW(lr=1.0, clip_norm=1.0), [length / 25.25**0.5 for length in LENGTHS]),
        (AdamW(lr=1.0, clip_norm=None, clip_by="tensor"), LENGTHS),
        (AdamW(lr=1.0, clip_norm=None), LENGTHS),
    ],
    ids=["tensor", "global", "tensor-none", "global-none"],
)
def test_norms_after_clipping_and_the_global_one_before(choice: AdamW, after: tuple[float, ...]) -> None:
    made = parameters()
    assert clip_gradients(made, choice).item() == pytest.approx(25.25**0.5)
    assert [one.grad.norm().item() for one in made if one.grad is not None] == pytest.approx(list(after), rel=1e-5)
    assert made[-1].grad is None

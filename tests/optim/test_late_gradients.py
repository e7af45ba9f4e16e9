"""A tensor whose first gradient comes late is updated as one whose first gradient comes at once.

The definition: at its first gradient of 1, from weights of 0, AdamW without bias correction moves a weight by
lr (1 - β₁) / (√(1 - β₂) + eps), with it by lr / (1 + eps), and so does LAMB; Adafactor counts its rate from there too.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genus.optim import Optimizer
from genus.optim.adafactor import Adafactor
from genus.optim.adagrad import Adagrad
from genus.optim.adamw import AdamW
from genus.optim.lamb import LAMB
from genus.optim.lion import Lion
from genus.optim.nvlamb import NVLAMB
from genus.part import slots_of

EPS = 1e-6
FLOAT32 = 1e-6
UNCORRECTED = 0.1 / (0.001**0.5 + EPS)


def first_move(choice: Optimizer, first: int) -> float:
    """Return how far a bias moves whose first gradient comes at that update, beside one that always has a gradient."""
    module = nn.ModuleDict({"early": nn.Linear(4, 4), "late": nn.Linear(4, 4)})
    for weight in module.parameters():
        nn.init.zeros_(weight)
    optimizer = choice.build(module)
    for update in range(1, first + 1):
        for weight in module["early"].parameters():
            weight.grad = torch.ones_like(weight)
        for weight in module["late"].parameters():
            weight.grad = torch.ones_like(weight) if update == first else None
        optimizer.step()
    return -module["late"].bias[0].item()


@pytest.mark.parametrize("first", [1, 2, 1000])
@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        (AdamW(lr=1.0, eps=EPS, weight_decay=0.0, bias_correction=False), UNCORRECTED),
        (AdamW(lr=1.0, eps=EPS, weight_decay=0.0), 1.0 / (1.0 + EPS)),
        (LAMB(lr=1.0, eps=EPS, weight_decay=0.0), 1.0 / (1.0 + EPS)),
        (LAMB(lr=1.0, eps=EPS, weight_decay=0.0, bias_correction=False), UNCORRECTED),
        (Lion(lr=1.0), 1.0),
        (Adagrad(lr=1.0), 1.0),
        (Adafactor(lr=2.0, scaled=False), 1.0),
    ],
    ids=lambda value: getattr(value, "in_words", ""),
)
def test_the_first_update_of_a_late_tensor(choice: Optimizer, wanted: float, first: int) -> None:
    assert first_move(choice, first) == pytest.approx(wanted, rel=FLOAT32)


def test_the_first_update_of_a_late_tensor_under_one_length() -> None:
    """NVLAMB divides by the length of all gradients, which the late tensor's own is part of."""
    choice = NVLAMB(lr=1.0, eps=0.0, weight_decay=0.0)
    assert first_move(choice, 1000) == pytest.approx(first_move(choice, 1), rel=1e-4)


@pytest.mark.parametrize("kind", slots_of(Optimizer))  # type: ignore[type-abstract]  # a slot is abstract
@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_found_inf_leaves_the_weights_as_they_are(kind: str, bad: float) -> None:
    """As a fused optimizer of PyTorch does: with a momentum from before, and a gradient that is not finite."""
    torch.manual_seed(0)
    module = nn.Linear(4, 3)
    optimizer = slots_of(Optimizer)[kind](lr=0.1).build(module)  # type: ignore[type-abstract]
    optimizer.found_inf = torch.zeros(())
    before = [weight.detach().clone() for weight in module.parameters()]
    for weight in module.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    moved = [weight.detach().clone() for weight in module.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(before, moved, strict=True))
    optimizer.found_inf.fill_(1.0)
    for value in (bad, 1.0):
        for weight in module.parameters():
            weight.grad = torch.full_like(weight, value)
        optimizer.step()
    assert all(torch.equal(a, b.detach()) for a, b in zip(moved, module.parameters(), strict=True))

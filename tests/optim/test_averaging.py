"""The average of weights: its recurrence, written out, and that it takes the weights' place and gives it back."""

from __future__ import annotations

import torch
from torch import nn

from genus.optim.adamw import AdamW
from genus.optim.averaging import AveragedAdamW, averaged_weights


def trained(kind: AdamW, updates: int) -> tuple[nn.Linear, torch.optim.Optimizer, list[torch.Tensor]]:
    """Return a layer after updates, its optimizer, and its weight after each."""
    torch.manual_seed(0)
    layer, seen = nn.Linear(3, 2), list[torch.Tensor]()
    optimizer = kind.build(layer)
    for number in range(updates):
        layer(torch.full((1, 3), float(number + 1))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(layer.weight.detach().clone())
    return layer, optimizer, seen


def test_the_average_is_that_of_the_formula() -> None:
    layer, optimizer, seen = trained(AveragedAdamW(lr=0.1, decay=0.9), 7)
    average = seen[0]
    for weight in seen[1:]:
        average = 0.9 * average + 0.1 * weight
    own = layer.weight.detach().clone()
    with averaged_weights(optimizer):
        torch.testing.assert_close(layer.weight, average)
    assert torch.equal(layer.weight, own)
    assert not torch.allclose(own, average)


def test_updates_are_those_of_adamw() -> None:
    _, _, plain = trained(AdamW(lr=0.1), 5)
    _, optimizer, averaged = trained(AveragedAdamW(lr=0.1), 5)
    assert all(torch.equal(one, other) for one, other in zip(plain, averaged, strict=True))
    kept = optimizer.state[next(iter(optimizer.state))]
    assert AveragedAdamW.moments == len(kept.keys() - {"step"})


def test_without_averages_nothing_changes() -> None:
    layer, optimizer, seen = trained(AdamW(lr=0.1), 2)
    with averaged_weights(optimizer):
        assert torch.equal(layer.weight, seen[-1])

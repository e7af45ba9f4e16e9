"""Update rules of our own: what PyTorch's optimizer class asks for, apart from the rule itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor


class Rule(torch.optim.Optimizer, ABC):
    """An update rule over all tensors of a group at once.

    A group counts its updates as `updates`. Whatever else a rule remembers is tensors, so that a checkpoint holds it.
    """

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(groups, {})

    @abstractmethod
    def update(self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor]) -> None:
        """Change the weights of a group in place, by their gradients."""

    def kept(self, name: str, weights: list[Tensor]) -> list[Tensor]:
        """Return what is remembered under a name beside each weight and as wide; at first zeros."""
        for weight in weights:
            if name not in self.state[weight]:
                self.state[weight][name] = torch.zeros_like(weight)
        return [self.state[weight][name] for weight in weights]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Make one update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            pairs = [(weight, weight.grad) for weight in group["params"] if weight.grad is not None]
            if pairs:
                group["updates"] = group.get("updates", 0) + 1
                weights, gradients = map(list, zip(*pairs, strict=True))
                self.update(group, weights, gradients)
        return loss

"""Reading several layers: a head's input made of the hidden states of chosen layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genus.errors import UsageError
from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.model import States


class LayerMix(Part, ABC):
    """The slot of ways in which the states of several layers become one state of each token."""

    layers: tuple[int, ...] = (-4, -3, -2, -1)
    """0: the embeddings; 1: the first layer; -1: the last layer, as the network gives it (Devlin et al. 2018, table 7:
    the last four)."""

    def __post_init__(self) -> None:
        """Check that there is a layer.

        Raises:
            ValueError: there is none.
        """
        if not self.layers:
            raise ValueError("layers: name one at least, such as -1 for the last")

    @abstractmethod
    def width(self, hidden: int) -> int:
        """Return the dimension of what is made of states of size `hidden`."""

    @abstractmethod
    def build(self) -> nn.Module:
        """Return the module, from the states (T, H) of each layer to (T, `width(H)`)."""


class Concatenated(LayerMix):
    """The states side by side (Devlin et al. 2018, section 5.3)."""

    def width(self, hidden: int) -> int:
        """Return H times the number of layers."""
        return len(self.layers) * hidden

    def build(self) -> nn.Module:
        """Return the module, which has no parameters."""
        return SideBySide()


class WeightedSum(LayerMix):
    """c Σ_k softmax(w)_k h_k, with w and c trained: w begins as 0, c as 1 (Peters et al. 2018, equation 1)."""

    def width(self, hidden: int) -> int:
        """Return H."""
        return hidden

    def build(self) -> nn.Module:
        """Return the module, which has the weights."""
        return Weighing(len(self.layers))


class SideBySide(nn.Module):
    """The module of `Concatenated`."""

    def forward(self, *states: Tensor) -> Tensor:
        """Forward pass: return the states (T, H) of each layer side by side."""
        return torch.cat(states, -1)


class Weighing(nn.Module):
    """The module of a `WeightedSum`."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(number))
        self.scale = nn.Parameter(torch.ones(()))

    def init_weights(self, initialization: object) -> None:
        """Leave the weights as they are, which are not drawn."""
        return

    def forward(self, *states: Tensor) -> Tensor:
        """Forward pass: return (T, H) for the states (T, H) of each layer."""
        return self.scale * torch.einsum("kth,k->th", torch.stack(states), self.weights.softmax(0))


def chosen_states(states: States, layers: Sequence[int]) -> list[Tensor]:
    """Return the states (T, H) of chosen layers, of a forward pass that kept them; see `LayerMix.layers`.

    Raises:
        UsageError: there is no such layer.
    """
    assert states.layers is not None, "hidden states were not asked for"
    every = [*states.layers[:-1], states["tokens"]]
    if missing := [number for number in layers if not -len(every) <= number < len(every)]:
        raise UsageError(f"layers: there is no {missing[0]}: the model has the embeddings, 0, and layers up to "
                         f"{len(every) - 1}, or -1 to {-len(every)} from the last")  # fmt: skip
    return [every[number] for number in layers]

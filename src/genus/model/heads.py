"""Heads: from hidden states to sequence vectors, or to one logit per token.

Legend: M targets, N sequences, H hidden size.
"""

from __future__ import annotations

from torch import Tensor, nn

from genus.model.activation import Activation, Tanh
from genus.model.demand import Demand, linear
from genus.part import Part


class Pooler(Part):
    """f(W h + b) over the state of the sequence's first token (BERT's released code)."""

    activation: Activation = Tanh()

    def build(self, hidden: int) -> nn.Module:
        """Return the module, from (N, H) to (N, width)."""
        return nn.Sequential(nn.Linear(hidden, self.width(hidden)), self.activation.build())

    def width(self, hidden: int) -> int:
        """Return how wide what it gives is, for states of `hidden` numbers."""
        return hidden

    def demand(self, hidden: int) -> Demand:
        """Return a linear map, for one sequence."""
        return linear(hidden, self.width(hidden))


class BinaryHead(nn.Module):
    """One logit a state: w · f(W h + b) + c (Clark et al. 2020, released code, _get_discriminator_output)."""

    def __init__(self, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)
        self.activation = activation.build()
        self.out = nn.Linear(hidden, 1)

    def forward(self, hidden_MH: Tensor) -> Tensor:
        """Return logits (M,)."""
        return self.out(self.activation(self.dense(hidden_MH)))[:, 0]  # type: ignore[no-any-return]


def binary_head_demand(hidden: int) -> Demand:
    """Return what a `BinaryHead` demands, at one state."""
    return linear(hidden, hidden) + Demand(kept=hidden) + linear(hidden, 1)

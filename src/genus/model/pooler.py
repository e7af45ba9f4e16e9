"""Poolers: a dense layer with an activation over the first token of a sequence."""

from __future__ import annotations

from torch import nn

from genus.model.activation import Activation, Tanh
from genus.model.cost import ComponentCost, linear_cost
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

    def cost(self, hidden: int) -> ComponentCost:
        """Return a linear map, for one sequence."""
        return linear_cost(hidden, self.width(hidden))


class HalfPooler(Pooler):
    """f(W h + b) with W from 2 H to H numbers: for the two states of a reversible stack (Hugging Face's Reformer)."""

    def width(self, hidden: int) -> int:
        """Return half of what comes in."""
        return hidden // 2

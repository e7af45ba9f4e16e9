"""Poolers: a dense layer and an activation on the first token of a sequence."""

from __future__ import annotations

from torch import nn

from genus.model.activation import Activation, Gelu, Tanh
from genus.model.cost import ComponentCost, linear_cost
from genus.model.norm import LayerNorm, Norm
from genus.part import Count, Part


class Pooler(Part):
    """BERT's pooler: f(W h + b) on the hidden state h of the sequence's first token (released code)."""

    activation: Activation = Tanh()

    def build(self, hidden: int) -> nn.Module:
        """Return the module, from (N, H) to (N, `width(hidden)`)."""
        return nn.Sequential(nn.Linear(hidden, self.width(hidden)), self.activation.build())

    def width(self, hidden: int) -> int:
        """Return the output dimension for hidden states of size `hidden`."""
        return hidden

    def cost(self, hidden: int) -> ComponentCost:
        """Return the cost per sequence, that of the linear layer."""
        return linear_cost(hidden, self.width(hidden))


class NormPooler(Pooler):
    """Pooler norm(f(W h + b)) on the hidden state h of the first token (Hugging Face's ModernBERT)."""

    activation: Activation = Gelu()
    norm: Norm = LayerNorm()

    def build(self, hidden: int) -> nn.Module:
        """Return the module, from (N, H) to (N, H)."""
        return nn.Sequential(nn.Linear(hidden, hidden), self.activation.build(), self.norm.build(hidden))

    def cost(self, hidden: int) -> ComponentCost:
        """Return the cost per sequence, that of the linear layer and the norm."""
        return linear_cost(hidden, hidden) + self.norm.cost(hidden)


class SizedPooler(Pooler):
    """Pooler f(W h + b) from dimension H to `size`: a hidden layer before the classes (Dai and Le 2015)."""

    size: Count

    def width(self, hidden: int) -> int:
        """Return the chosen dimension."""
        return self.size


class HalfPooler(Pooler):
    """Pooler f(W h + b) from dimension 2 H to H: for the two states of a reversible stack (Hugging Face's Reformer)."""

    def width(self, hidden: int) -> int:
        """Return half of the input dimension."""
        return hidden // 2

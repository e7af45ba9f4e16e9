"""Gated feed-forward networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from genus.model.activation import Activation, Gelu
from genus.model.cost import ComponentCost, linear_cost
from genus.model.feedforward import FeedForward
from genus.model.initialization import ResidualBranch
from genus.part import Count, Fraction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genus.model.split import Split


class GatedMLP(FeedForward):
    """Gated feed-forward network: W_out (f(W_gate x) * W_inner x), with f the activation (Shazeer 2020, section 2).

    With GELU it is GEGLU, with SiLU SwiGLU, with ReLU ReGLU, with the logistic function GLU, with the identity LiGLU.
    """

    size: Count
    """F, the inner size; of as many parameters as an MLP of size 3 F / 2."""
    activation: Activation = Gelu()
    bias: bool = False
    """Whether the three linear maps have a bias; in the paper they have none."""
    dropout: Fraction = 0.0
    """Dropout probability of the gated activations, in training (T5's released code)."""

    @property
    def in_words(self) -> str:
        """The activation, and that it is a gate."""
        return f"{self.activation.in_words} gate"

    def build(self, hidden: int) -> ResidualBranch:
        """Return the module for hidden states of size H = `hidden`."""
        return GatedMLPLayer(self, hidden)

    def cost(self, hidden: int) -> ComponentCost:
        """Return the cost per token; both inner maps and the activation are kept for the backward pass."""
        inner = linear_cost(hidden, self.size, self.bias).repeated(2)
        return inner + ComponentCost(activations=self.size) + linear_cost(self.size, hidden, self.bias)


class GatedMLPLayer(ResidualBranch):
    """The module of a gated feed-forward network."""

    gathers = True

    def __init__(self, choice: GatedMLP, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden, choice.size, bias=choice.bias)
        self.inner = nn.Linear(hidden, choice.size, bias=choice.bias)
        self.activation = choice.activation.build()
        self.dropout = nn.Dropout(choice.dropout)
        self.out = nn.Linear(choice.size, hidden, bias=choice.bias)

    def shardings(self) -> Mapping[str, Split | int]:
        """Return the split by inner units."""
        return {"gate": "column", "inner": "column", "out": "row"}

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass: return (T, H)."""
        return self.out(self.dropout(self.activation(self.gate(x)) * self.inner(x)))  # type: ignore[no-any-return]

"""Feed-forward networks of two linear layers, over all tokens at once or in chunks of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from genus.model.activation import Activation, Gelu, Relu
from genus.model.cost import ComponentCost, linear_cost
from genus.model.feedforward import FeedForward
from genus.model.initialization import ResidualBranch
from genus.part import Count, Fraction, Natural

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genus.model.split import Split


class MLP(FeedForward):
    """Position-wise feed-forward network: W2 f(W1 x + b1) + b2 (Vaswani et al. 2017, equation 2)."""

    size: Count
    """F, the inner size."""
    activation: Activation = Gelu()
    bias: bool = True
    """Whether both linear maps have a bias."""
    dropout: Fraction = 0.0
    """Dropout probability of the activations, in training (Vaswani et al.'s tensor2tensor, T5's released code)."""

    def build(self, hidden: int) -> ResidualBranch:
        """Return the module for hidden states of size H = `hidden`."""
        return MLPLayer(self, hidden)

    def cost(self, hidden: int) -> ComponentCost:
        """Return the cost per token of two linear layers; the activation's input is kept for the backward pass."""
        inner = linear_cost(hidden, self.size, self.bias) + ComponentCost(activations=self.size)
        return inner + linear_cost(self.size, hidden, self.bias)


class MLPLayer(ResidualBranch):
    """The module of a feed-forward network: two linear layers with an activation between."""

    gathers = True

    def __init__(self, choice: MLP, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(hidden, choice.size, bias=choice.bias)
        self.activation = choice.activation.build()
        self.dropout = nn.Dropout(choice.dropout)
        self.out = nn.Linear(choice.size, hidden, bias=choice.bias)

    def shardings(self) -> Mapping[str, Split | int]:
        """Return the split by inner units."""
        return {"inner": "column", "out": "row"}

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass: return (T, H)."""
        return self.out(self.dropout(self.activation(self.inner(x))))  # type: ignore[no-any-return]


class ChunkedMLP(FeedForward):
    """Feed-forward network W2 f(dropout(W1 x + b1)) + b2, computed in chunks of tokens.

    The backward pass recomputes each chunk, so that it too needs the inner activations of one chunk only.

    Source: Kitaev et al. 2020, section 3, Chunking.
    """

    size: Count
    """F, the inner size."""
    activation: Activation = Relu()
    dropout: Fraction = 0.0
    """Dropout probability on the inner layer, in training (released code)."""
    chunk: Natural = 0
    """Tokens per chunk, across sequences; 0: no chunks and no recomputation."""

    def build(self, hidden: int) -> ResidualBranch:
        """Return the module for hidden states of size H = `hidden`."""
        return ChunkedMLPLayer(self, hidden)

    def cost(self, hidden: int) -> ComponentCost:
        """Return the cost per token of two linear layers; with chunks, only the input is kept for the backward pass."""
        both = linear_cost(hidden, self.size) + ComponentCost(activations=self.size) + linear_cost(self.size, hidden)
        return both if not self.chunk else ComponentCost(both.parameters, both.flops, hidden)


class ChunkedMLPLayer(ResidualBranch):
    """The module of a chunked feed-forward network."""

    def __init__(self, choice: ChunkedMLP, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(hidden, choice.size)
        self.activation = choice.activation.build()
        self.out = nn.Linear(choice.size, hidden)
        self.dropout, self.chunk = choice.dropout, choice.chunk

    def shardings(self) -> Mapping[str, Split | int]:
        """Return the split by inner units."""
        return {"inner": "column", "out": "row"}

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass: return (T, H)."""
        if not 0 < self.chunk < len(x):
            return self.one(x)
        parts = torch.split(x, self.chunk)
        if not torch.is_grad_enabled():
            return torch.cat([self.one(part) for part in parts])
        return torch.cat([checkpoint(self.one, part, use_reentrant=False) for part in parts])

    def one(self, x: Tensor) -> Tensor:
        """Return the outputs (tokens, H) of one chunk."""
        return self.out(self.activation(F.dropout(self.inner(x), self.dropout, self.training)))  # type: ignore[no-any-return]

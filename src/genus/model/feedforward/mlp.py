"""The feed-forward network of two linear layers, at once or in chunks of tokens.

Legend: T tokens, H hidden size, F inner size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from genus.model.activation import Activation, Gelu, Relu
from genus.model.cost import ComponentCost, linear_cost
from genus.model.feedforward import FeedForward
from genus.model.initialization import ResidualBranch
from genus.part import Count, Fraction, Natural


class MLP(FeedForward):
    """W2 f(W1 x + b1) + b2 (Vaswani et al. 2017, equation 2)."""

    size: Count
    """Width of the inner layer."""
    activation: Activation = Gelu()

    def build(self, hidden: int) -> ResidualBranch:
        """Return the layer."""
        return MLPLayer(self, hidden)

    def cost(self, hidden: int) -> ComponentCost:
        """Return two linear maps; the activation keeps its input."""
        return linear_cost(hidden, self.size) + ComponentCost(activations=self.size) + linear_cost(self.size, hidden)


class MLPLayer(ResidualBranch):
    """Two linear maps with an activation between."""

    def __init__(self, choice: MLP, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(hidden, choice.size)
        self.activation = choice.activation.build()
        self.out = nn.Linear(choice.size, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Return (T, H)."""
        return self.out(self.activation(self.inner(x)))  # type: ignore[no-any-return]


class ChunkedMLP(FeedForward):
    """W2 f(d(W1 x + b1)) + b2, d dropout, for a chunk of tokens at a time (Kitaev et al. 2020, section 3, Chunking).

    On the way back each chunk is computed anew, so that the inner layer takes the memory of one chunk there too.
    """

    size: Count
    """Width of the inner layer."""
    activation: Activation = Relu()
    dropout: Fraction = 0.0
    """On the inner layer, in training (released code)."""
    chunk: Natural = 0
    """Tokens of a chunk, over all sequences; 0: all at once, which recomputes nothing."""

    def build(self, hidden: int) -> ResidualBranch:
        """Return the layer."""
        return ChunkedMLPLayer(self, hidden)

    def cost(self, hidden: int) -> ComponentCost:
        """Return two linear maps; of what is kept, the input alone where there are chunks."""
        both = linear_cost(hidden, self.size) + ComponentCost(activations=self.size) + linear_cost(self.size, hidden)
        return both if not self.chunk else ComponentCost(both.parameters, both.flops, hidden)


class ChunkedMLPLayer(ResidualBranch):
    """Two linear maps with an activation between, a chunk of tokens at a time."""

    def __init__(self, choice: ChunkedMLP, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(hidden, choice.size)
        self.activation = choice.activation.build()
        self.out = nn.Linear(choice.size, hidden)
        self.dropout, self.chunk = choice.dropout, choice.chunk

    def forward(self, x: Tensor) -> Tensor:
        """Return (T, H)."""
        if not 0 < self.chunk < len(x):
            return self.one(x)
        parts = torch.split(x, self.chunk)
        if not torch.is_grad_enabled():
            return torch.cat([self.one(part) for part in parts])
        return torch.cat([checkpoint(self.one, part, use_reentrant=False) for part in parts])

    def one(self, x: Tensor) -> Tensor:
        """Return what is said of a chunk's tokens."""
        return self.out(self.activation(F.dropout(self.inner(x), self.dropout, self.training)))  # type: ignore[no-any-return]

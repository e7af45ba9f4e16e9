"""The feed-forward sub-layer."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from genus.model.activation import Activation, Gelu
from genus.model.demand import Demand, linear
from genus.model.initialization import ResidualBranch
from genus.part import Count, Part


class FeedForward(Part, ABC):
    """A choice of position-wise sub-layer."""

    @abstractmethod
    def build(self, hidden: int) -> ResidualBranch:
        """Return the sub-layer, from (T, hidden) to (T, hidden)."""

    @abstractmethod
    def demand(self, hidden: int) -> Demand:
        """Return what it needs."""


class Dense(FeedForward):
    """W2 f(W1 x + b1) + b2 (Vaswani et al. 2017, equation 2)."""

    size: Count
    """Width of the inner layer."""
    activation: Activation = Gelu()

    def build(self, hidden: int) -> ResidualBranch:
        """Return the layer."""
        return DenseLayer(self, hidden)

    def demand(self, hidden: int) -> Demand:
        """Return two linear maps; the activation keeps its input."""
        return linear(hidden, self.size) + Demand(kept=self.size) + linear(self.size, hidden)


class DenseLayer(ResidualBranch):
    """Two linear maps with an activation between."""

    def __init__(self, choice: Dense, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(hidden, choice.size)
        self.activation = choice.activation.build()
        self.out = nn.Linear(choice.size, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Return (T, H)."""
        return self.out(self.activation(self.inner(x)))  # type: ignore[no-any-return]

"""The slot of position-wise feed-forward networks, and what those ask of a forward pass that choose among experts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from genus.model.initialization import ResidualBranch
from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from genus.batch import Packed
    from genus.model.cost import ComponentCost


class FeedForward(Part, ABC):
    """The slot of position-wise feed-forward sub-layers."""

    @property
    def losses(self) -> frozenset[str]:
        """Names of the auxiliary losses of its layers (`States.losses`); by default there are none."""
        return frozenset()

    def of_layer(self, number: int) -> FeedForward:
        """Return the feed-forward network of layer `number`; by default all layers have the same one."""
        return self

    @abstractmethod
    def build(self, hidden: int) -> ResidualBranch:
        """Return the module, from (T, H) to (T, H), with H = `hidden`."""

    @abstractmethod
    def cost(self, hidden: int) -> ComponentCost:
        """Return the cost per token."""


@dataclass(frozen=True, slots=True)
class Routing:
    """What a layer that chooses among experts is told of a forward pass, and what it tells."""

    real: Tensor
    """(T,) bool: false for padding; of a query stream (T + R P,)."""
    losses: dict[str, Tensor] = field(default_factory=dict)
    """The layer's auxiliary losses by name, summed over the real tokens; a name with a slash is a metric."""

    @classmethod
    def of(cls, module: nn.Module | None, packed: Packed) -> Routing | None:
        """Return the routing of a feed-forward sub-layer over a packed stream; None: it asks for none.

        States of a query stream stand after those of the tokens, and are as real as theirs.
        """
        if not isinstance(module, RoutedBranch):
            return None
        real = packed.sequence >= 0
        return cls(real if packed.query is None else torch.cat([real, real[packed.query.flatten()]]))


class RoutedBranch(ResidualBranch, ABC):
    """A feed-forward sub-layer that chooses among experts: it asks which tokens are real, and has auxiliary losses."""

    @abstractmethod
    def forward(self, x: Tensor, routing: Routing | None = None) -> Tensor:
        """Forward pass: return (T, H). Without a routing all tokens are real, and no loss is told."""


def routed(module: nn.Module, plans: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """Return a feed-forward sub-layer as a function of x (T, H) alone, given a layer's plans by name."""
    routing = plans.get("feedforward")
    return module if routing is None else partial(module, routing=routing)

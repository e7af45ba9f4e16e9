"""The slot of position-wise feed-forward networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from genus.part import Part

if TYPE_CHECKING:
    from genus.model.cost import ComponentCost
    from genus.model.initialization import ResidualBranch


class FeedForward(Part, ABC):
    """The slot of position-wise feed-forward sub-layers."""

    @abstractmethod
    def build(self, hidden: int) -> ResidualBranch:
        """Return the module, from (T, H) to (T, H), with H = `hidden`."""

    @abstractmethod
    def cost(self, hidden: int) -> ComponentCost:
        """Return the cost per token."""

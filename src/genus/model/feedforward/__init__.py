"""Feed-forward slot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from genus.part import Part

if TYPE_CHECKING:
    from genus.model.cost import ComponentCost
    from genus.model.initialization import ResidualBranch


class FeedForward(Part, ABC):
    """A choice of position-wise sub-layer."""

    @abstractmethod
    def build(self, hidden: int) -> ResidualBranch:
        """Return the sub-layer, from (T, hidden) to (T, hidden)."""

    @abstractmethod
    def cost(self, hidden: int) -> ComponentCost:
        """Return what it needs."""

"""Alternating feed-forward networks: a periodic pattern of them over the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.model.feedforward import FeedForward

if TYPE_CHECKING:
    from genus.model.cost import ComponentCost
    from genus.model.initialization import ResidualBranch


class AlternatingFeedForward(FeedForward):
    """Alternating feed-forward networks: layer i has `feedforwards[order[i % len(order)]]`.

    So experts stand in every other layer (Fedus et al. 2021, section 2.2), or a memory in one (Lample et al. 2019).
    """

    feedforwards: tuple[FeedForward, ...]
    order: tuple[int, ...] = (0, 1)

    def __post_init__(self) -> None:
        """Check that the order consists of indices of `feedforwards` (ValueError)."""
        last = len(self.feedforwards) - 1
        if not self.order or not all(0 <= number <= last for number in self.order):
            raise ValueError(f"feedforward.order: expected numbers from 0 to {last}, got {list(self.order)}")

    @property
    def in_words(self) -> str:
        """The distinct networks, in the order of `feedforwards`."""
        return " and ".join(dict.fromkeys(one.in_words for one in self.feedforwards))

    @property
    def losses(self) -> frozenset[str]:
        """Names of the auxiliary losses of those that have any."""
        return frozenset().union(*(one.losses for one in self.feedforwards))

    def of_layer(self, number: int) -> FeedForward:
        """Return the network of layer `number`."""
        return self.feedforwards[self.order[number % len(self.order)]]

    def build(self, hidden: int) -> ResidualBranch:
        """Return the module of the first layer."""
        return self.of_layer(0).build(hidden)

    def cost(self, hidden: int) -> ComponentCost:
        """Return the cost per token of the first layer."""
        return self.of_layer(0).cost(hidden)

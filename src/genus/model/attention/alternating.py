"""Layers that take turns in how they attend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.model.attention import Attention

if TYPE_CHECKING:
    from genus.model.attention import AttentionLayer
    from genus.model.cost import ComponentCost


class AlternatingAttention(Attention):
    """Layer i attends by `attentions[order[i]]`, the order going round; each of them has a plan of its own.

    Source: Kitaev et al. 2020, released code: layers of local and of LSH attention.
    """

    attentions: tuple[Attention, ...]
    order: tuple[int, ...] = (0, 1)

    @property
    def in_words(self) -> str:
        """Each of them once."""
        return " and ".join(dict.fromkeys(attention.in_words for attention in self.attentions))

    def __post_init__(self) -> None:
        """Refuse an order of what is not there, and one that repeats itself.

        Raises:
            ValueError: as said.
        """
        last = len(self.attentions) - 1
        if not self.order or not all(0 <= number <= last for number in self.order):
            raise ValueError(f"attention.order: expected numbers from 0 to {last}, got {list(self.order)}")
        size = len(shortest(self.order))
        if size < len(self.order) and len(self.order) % size == 0:
            raise ValueError(f"attention.order: goes round by itself; write {list(self.order[:size])}")

    def of_layer(self, number: int) -> Attention:
        """Return the one whose turn it is."""
        return self.attentions[self.order[number % len(self.order)]]

    def head_sizes(self, hidden: int) -> tuple[int, int]:
        """Return those of the first; `check` refuses positions where others differ."""
        return self.of_layer(0).head_sizes(hidden)

    def check(self, hidden: int) -> None:
        """Refuse what any of them refuses."""
        for attention in self.attentions:
            attention.check(hidden)

    def build(self, hidden: int) -> AttentionLayer:
        """Return the first layer."""
        return self.of_layer(0).build(hidden)

    def cost(self, hidden: int, length: int) -> ComponentCost:
        """Return what the first layer needs."""
        return self.of_layer(0).cost(hidden, length)


def shortest(order: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shortest order that, going round, begins so."""
    size = next(size for size in range(1, len(order) + 1) if order == (order[:size] * len(order))[: len(order)])
    return order[:size]

"""Alternating attention: a periodic pattern of attention types over the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.model.attention import Attention

if TYPE_CHECKING:
    from genus.model.attention import AttentionLayer
    from genus.model.cost import ComponentCost


class AlternatingAttention(Attention):
    """Alternating attention: layer i uses `attentions[order[i % len(order)]]`; each type has its own attention plan.

    Source: Kitaev et al. 2020, released code: layers of local and of LSH attention.
    """

    attentions: tuple[Attention, ...]
    order: tuple[int, ...] = (0, 1)

    @property
    def in_words(self) -> str:
        """The distinct types of attention, in the order of `attentions`."""
        return " and ".join(dict.fromkeys(attention.in_words for attention in self.attentions))

    def __post_init__(self) -> None:
        """Check that the order consists of indices of `attentions` and is the shortest period.

        Raises:
            ValueError: an index is out of range, or the order repeats a shorter one.
        """
        last = len(self.attentions) - 1
        if not self.order or not all(0 <= number <= last for number in self.order):
            raise ValueError(f"attention.order: expected numbers from 0 to {last}, got {list(self.order)}")
        size = len(shortest(self.order))
        if size < len(self.order) and len(self.order) % size == 0:
            raise ValueError(f"attention.order: goes round by itself; write {list(self.order[:size])}")

    @property
    def takes_prefix(self) -> bool:
        """Whether all of them take trained keys and values in front."""
        return all(attention.takes_prefix for attention in self.attentions)

    def of_layer(self, number: int) -> Attention:
        """Return the attention of layer `number`."""
        return self.attentions[self.order[number % len(self.order)]]

    def head_sizes(self, hidden: int) -> tuple[int, int]:
        """Return A and D of the first layer; `check` refuses positions where others differ."""
        return self.of_layer(0).head_sizes(hidden)

    def check(self, hidden: int) -> None:
        """Check the hidden size against every attention (ValueError)."""
        for attention in self.attentions:
            attention.check(hidden)

    def build(self, hidden: int) -> AttentionLayer:
        """Return the module of the first layer."""
        return self.of_layer(0).build(hidden)

    def cost(self, hidden: int, length: int) -> ComponentCost:
        """Return the cost per token of the first layer."""
        return self.of_layer(0).cost(hidden, length)


def shortest(order: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shortest order whose repetition begins with `order`."""
    size = next(size for size in range(1, len(order) + 1) if order == (order[:size] * len(order))[: len(order)])
    return order[:size]

"""Positions that add to the scores of attention: T5's buckets of distances, and ALiBi.

Legend: R rows, Q and K row lengths of queries and keys, A heads.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from genus.model.cost import ComponentCost
from genus.model.position import NoPosition
from genus.part import Count

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.model.attention.plan import Side


class PositionBias(nn.Module, ABC):
    """What the positions of a query and of a key add to their score, for each head, in all layers alike."""

    @abstractmethod
    def added(self, distance: Tensor) -> Tensor:
        """Return (..., A) for distances (...) from the query to the key: positive where the key comes later."""

    def forward(self, q: Side, k: Side) -> Tensor:
        """Return (R, A, Q, K)."""
        distance = k.rows(k.position)[:, None] - q.rows(q.position)[:, :, None]
        return self.added(distance).permute(0, 3, 1, 2)

    def score_mod(self, q: Side, k: Side) -> Callable[..., Tensor]:
        """Return the same as FlexAttention takes it."""
        of_head = self.of_head(q.position.device)

        def mod(score: Tensor, row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            distance = k.position[row * k.row_length + key] - q.position[row * q.row_length + query]
            return score + of_head(distance, head)

        return mod

    @abstractmethod
    def of_head(self, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
        """Return a function from one distance and the number of a head to what `added` says of it."""


class RelativeBuckets(NoPosition):
    """A learned number for each bucket of distances and head (Raffel et al. 2020, section 2.1; released code).

    Half of the buckets (of each direction) are exact distances, the others grow as logarithms up to `longest`.
    """

    biases: ClassVar[bool] = True

    buckets: Count = 32
    longest: Count = 128
    """Distances from here on share the last bucket."""
    both_directions: bool = True
    """Whether keys after the query have buckets of their own (encoders); else they share that of distance 0."""

    @property
    def in_words(self) -> str:
        """Its kind."""
        return f"relative position ({self.buckets} buckets)"

    def bias(self, heads: int) -> PositionBias:
        """Return the table."""
        return BucketBias(self, heads)

    def bias_demand(self, heads: int) -> ComponentCost:
        """Return the table."""
        return ComponentCost(self.buckets * heads)

    def bucket(self, distance: Tensor) -> Tensor:
        """Return the bucket of each distance from query to key."""
        number, first = self.buckets, torch.zeros_like(distance)
        if self.both_directions:
            number //= 2
            first, back = (distance > 0) * number, distance.abs()
        else:
            back = -distance.clamp(max=0)
        exact = number // 2
        far = torch.log(back.clamp(min=1).float() / exact) / math.log(self.longest / exact) * (number - exact)
        return first + torch.where(back < exact, back, (exact + far.long()).clamp(max=number - 1))


class BucketBias(PositionBias):
    """A table of numbers by bucket and head."""

    def __init__(self, choice: RelativeBuckets, heads: int) -> None:
        super().__init__()
        self.choice = choice
        self.table = nn.Embedding(choice.buckets, heads)

    def added(self, distance: Tensor) -> Tensor:
        """Return the numbers of the buckets."""
        return self.table(self.choice.bucket(distance))  # type: ignore[no-any-return]

    def of_head(self, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
        """Return an entry of the table."""
        table = self.table(torch.arange(self.choice.buckets, device=device))
        return lambda distance, head: table[self.choice.bucket(distance), head]


class Alibi(NoPosition):
    """-slope |i - j|, with slopes 2^(-8 / A), 2^(-16 / A), ... of A heads (Press et al. 2021, section 3)."""

    biases: ClassVar[bool] = True

    @property
    def in_words(self) -> str:
        """Its kind."""
        return "linear biases"

    def bias(self, heads: int) -> PositionBias:
        """Return the slopes."""
        return LinearBias(heads)


class LinearBias(PositionBias):
    """Fixed slopes."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def added(self, distance: Tensor) -> Tensor:
        """Return -slope |distance|."""
        return -distance.abs()[..., None] * self.slopes(distance.device)

    def of_head(self, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
        """Return -slope |distance|."""
        slopes = self.slopes(device)
        return lambda distance, head: -distance.abs() * slopes[head]

    def slopes(self, device: torch.device) -> Tensor:
        """Return (A,) slopes; past a power of 2, every second one of the next power is taken (released code)."""
        power = 2 ** math.floor(math.log2(self.heads))
        slopes = [2 ** (-8 * (n + 1) / power) for n in range(power)]
        slopes += [2 ** (-4 * (2 * n + 1) / power) for n in range(self.heads - power)]
        return torch.tensor(slopes, device=device)

"""Relative position biases on attention scores: T5's distance buckets, and ALiBi."""

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
    from collections.abc import Callable, Mapping

    from genus.model.attention.plan import Side
    from genus.model.initialization import Initialization
    from genus.model.split import Split


class PositionBias(nn.Module, ABC):
    """A position bias: a term of the attention score per head that depends on key - query position, for all layers."""

    def shardings(self) -> Mapping[str, Split | int]:
        """Return the split by heads (`split.Divisible`); empty by default: they cannot be."""
        return {}

    @abstractmethod
    def added(self, distance: Tensor) -> Tensor:
        """Return biases (..., A) for distances (...) = key position - query position, in tokens."""

    def forward(self, q: Side, k: Side) -> Tensor:
        """Return the bias (R, A, Q, K) for packed queries and keys."""
        distance = k.rows(k.position)[:, None] - q.rows(q.position)[:, :, None]
        return self.added(distance).permute(0, 3, 1, 2)

    def score_mod(self, q: Side, k: Side) -> Callable[..., Tensor]:
        """Return the bias as a `score_mod` of FlexAttention."""
        of_head = self.of_head(q.position.device)

        def mod(score: Tensor, row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            distance = k.position[row * k.row_length + key] - q.position[row * q.row_length + query]
            return score + of_head(distance, head)

        return mod

    @abstractmethod
    def of_head(self, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
        """Return a function from one distance and the index of a head to the bias, as `added`."""


class RelativeBuckets(NoPosition):
    """T5's relative position bias: a learned scalar per head and distance bucket.

    Half of the buckets (of each direction) are exact distances, the others grow logarithmically up to `longest`.

    Source: Raffel et al. 2020, section 2.1; released code.
    """

    biases: ClassVar[bool] = True

    buckets: Count = 32
    longest: Count = 128
    """Distance in tokens from which on all share the last bucket."""
    both_directions: bool = True
    """Whether keys after the query have their own buckets (encoders); else they share the bucket of distance 0."""

    @property
    def in_words(self) -> str:
        """The kind of bias, and its number of buckets."""
        return f"relative position ({self.buckets} buckets)"

    def bias(self, heads: int, hidden: int) -> PositionBias:
        """Return the module of the bias for A = `heads` heads, drawn as a linear map of `hidden` inputs."""
        return BucketBias(self, heads, hidden)

    def bias_cost(self, heads: int) -> ComponentCost:
        """Return the parameters of the table, one per bucket and head."""
        return ComponentCost(self.buckets * heads)

    def bucket(self, distance: Tensor) -> Tensor:
        """Return the bucket of each distance (key position - query position)."""
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
    """The module of `RelativeBuckets`: a learned table (buckets, A)."""

    def __init__(self, choice: RelativeBuckets, heads: int, hidden: int) -> None:
        super().__init__()
        self.choice, self.share = choice, heads / hidden
        self.table = nn.Embedding(choice.buckets, heads)

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize the table, as a linear map of H inputs in place of its A (transformers' T5 classes)."""
        initialization.draw(self.table.weight, "hidden", math.sqrt(self.share))

    def shardings(self) -> Mapping[str, Split | int]:
        """Return the split of the table by heads."""
        return {"table": "column"}

    def added(self, distance: Tensor) -> Tensor:
        """Return the biases (..., A) of the buckets of distances (...)."""
        return self.table(self.choice.bucket(distance))  # type: ignore[no-any-return]

    def of_head(self, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
        """Return a function that looks up the table by distance and head."""
        table = self.table(torch.arange(self.choice.buckets, device=device))
        return lambda distance, head: table[self.choice.bucket(distance), head]


class Alibi(NoPosition):
    """ALiBi: a bias -slope |i - j|, slopes 2^(-8 / A), 2^(-16 / A), ... of A heads (Press et al. 2021, section 3)."""

    biases: ClassVar[bool] = True

    @property
    def in_words(self) -> str:
        """A description of the bias."""
        return "linear biases"

    def bias(self, heads: int, hidden: int) -> PositionBias:
        """Return the module of the bias for A = `heads` heads."""
        return LinearBias(heads)


class LinearBias(PositionBias):
    """The module of `Alibi`: fixed slopes, no parameters."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def added(self, distance: Tensor) -> Tensor:
        """Return -slope |distance| for each head (..., A)."""
        return -distance.abs()[..., None] * self.slopes(distance.device)

    def of_head(self, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
        """Return a function from distance and head to -slope |distance|."""
        slopes = self.slopes(device)
        return lambda distance, head: -distance.abs() * slopes[head]

    def slopes(self, device: torch.device) -> Tensor:
        """Return slopes (A,); beyond a power of 2, every second slope of the next power is used (released code)."""
        power = 2 ** math.floor(math.log2(self.heads))
        slopes = [2 ** (-8 * (n + 1) / power) for n in range(power)]
        slopes += [2 ** (-4 * (2 * n + 1) / power) for n in range(self.heads - power)]
        return torch.tensor(slopes, device=device)

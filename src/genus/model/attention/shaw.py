"""Attention with vectors of relative positions (Shaw et al. 2018).

Legend: X distances between queries and keys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from genus.model.attention.scored import ScoredAttention, ScoredAttentionLayer, ScoredPlan
from genus.model.cost import ComponentCost, linear_cost
from genus.part import Count

if TYPE_CHECKING:
    from genus.model.attention import AttentionLayer
    from genus.model.attention.plan import Context
    from genus.model.initialization import Initialization


class ShawAttention(ScoredAttention):
    """Relative position vectors: scores q_i · (k_j + a^K_d) / sqrt(D), outputs Σ_j weight_ij (v_j + a^V_d).

    d = j - i, cut off at `longest` on either side. The vectors a are each layer's own, and those of all heads.

    Source: Shaw et al. 2018, equations 3 and 4 and section 3.2.
    """

    longest: Count
    """k: distances beyond count as k."""

    @property
    def in_words(self) -> str:
        """The distance, the number of heads, and the attention mask."""
        parts = (f"relative position vectors (to {self.longest})", f"{self.heads} heads", self.mask.in_words)
        return ", ".join(part for part in parts if part)

    @property
    def distances(self) -> int:
        """X, the number of distances: 2 k + 1, or k + 1 where no token sees a later one."""
        return self.longest + 1 + (0 if self.mask.causal else self.longest)

    def build(self, hidden: int) -> AttentionLayer:
        """Return the module for hidden states of size H = `hidden`."""
        return ShawAttentionLayer(self, hidden)

    def cost(self, hidden: int, length: int) -> ComponentCost:
        """Return the cost of the projections, and of products with `length` keys and values and with all distances."""
        heads, size = self.head_sizes(hidden)
        wide, known = heads * size, length + self.distances
        products = ComponentCost(2 * self.distances * size, 4.0 * known * wide, 3 * wide)
        return linear_cost(hidden, 3 * wide, self.bias) + products + linear_cost(wide, hidden, self.bias)


@dataclass(frozen=True, slots=True)
class ShawPlan(ScoredPlan):
    """A plan with the distance of each pair."""

    distance: Tensor
    """(R, 1, Q, K) int64 index of the distance's vectors."""


class ShawAttentionLayer(ScoredAttentionLayer):
    """The module of attention with relative position vectors."""

    choice: ShawAttention

    def __init__(self, choice: ShawAttention, hidden: int) -> None:
        super().__init__(choice, hidden)
        wide = choice.heads * self.head_size
        self.query = nn.Linear(hidden, wide, bias=choice.bias)
        self.key = nn.Linear(hidden, wide, bias=choice.bias)
        self.key_distance = nn.Parameter(torch.empty(choice.distances, self.head_size))
        self.value_distance = nn.Parameter(torch.empty(choice.distances, self.head_size))

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize the output projection, and the vectors of distances as hidden weights."""
        super().init_weights(initialization)
        for vectors in (self.key_distance, self.value_distance):
            initialization.draw(vectors, "hidden")

    def plan(self, context: Context) -> ShawPlan:
        """Return the mask of a batch, and the distances."""
        plan, longest = super().plan(context), self.choice.longest
        position = plan.side.rows(plan.side.position)
        away = (position[:, None] - position[:, :, None]).clamp(-longest, longest) + longest
        return ShawPlan(
            plan.side, plan.mask, plan.added, plan.dropout, away.clamp(max=self.choice.distances - 1)[:, None]
        )

    def scores(self, x: Tensor, plan: ScoredPlan) -> Tensor:
        """Return the scores (R, A, Q, K)."""
        q_RAQD, k_RAKD = (self.in_rows(project(x), plan) for project in (self.query, self.key))
        scores_RAQX = q_RAQD @ self.key_distance.t().to(q_RAQD.dtype)
        distance = cast("ShawPlan", plan).distance.expand(-1, q_RAQD.shape[1], -1, -1)
        scores = q_RAQD @ k_RAKD.transpose(-1, -2) + scores_RAQX.gather(-1, distance)
        return scores / math.sqrt(self.head_size)

    def mixed(self, weights_RAQK: Tensor, x: Tensor, plan: ScoredPlan) -> Tensor:
        """Return the values with the vectors of their distances (R, A, Q, D) in the mean of these weights."""
        dropped = nn.functional.dropout(weights_RAQK, plan.dropout)
        distance = cast("ShawPlan", plan).distance.expand_as(dropped)
        by_distance_RAQX = dropped.new_zeros(*dropped.shape[:3], self.choice.distances).scatter_add(
            -1, distance, dropped
        )
        values_RAKD = self.in_rows(self.value(x), plan).to(dropped.dtype)
        return dropped @ values_RAKD + by_distance_RAQX @ self.value_distance.to(dropped.dtype)

"""Self-attention whose layers make the scores of all pairs themselves.

Here Q = K = L.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.model.attention import Attention, AttentionLayer
from genus.model.attention.masks import AttentionMask, Full
from genus.model.attention.plan import Side, allowed
from genus.part import Count, Fraction

if TYPE_CHECKING:
    from genus.model.attention.plan import Context


class ScoredAttention(Attention, ABC):
    """Self-attention concat_a(softmax(scores_a) v_a) W_out, with scores of each pair that a kind of it defines.

    It supports position biases, which are added to the scores, and no rotary positions. It keeps no keys and values:
    decoders read the whole text again for each token.
    """

    takes_positions: ClassVar[bool] = True
    takes_rotation: ClassVar[bool] = False

    heads: Count
    bias: bool = True
    """Whether the linear maps have a bias."""
    dropout: Fraction = 0.1
    """Dropout probability of the attention probabilities, in training."""
    mask: AttentionMask = Full()
    size: Count | None = None
    """D, the head size; None: H / A."""

    def head_sizes(self, hidden: int) -> tuple[int, int]:
        """Return A and D, the number of heads and the head size."""
        return self.heads, self.size or hidden // self.heads

    def check(self, hidden: int) -> None:
        """Check that the heads divide the hidden size (ValueError)."""
        if self.size is None and hidden % self.heads:
            raise ValueError(f"{self.heads} attention heads do not divide a hidden size of {hidden}")


@dataclass(frozen=True, slots=True)
class ScoredPlan:
    """What the layers of one choice share in a forward pass."""

    side: Side
    """The tokens, which are queries and keys."""
    mask: Tensor
    """(R, 1, Q, K) bool, true where attention is allowed."""
    added: Tensor | None
    """(R, A, Q, K) position bias; None: there is none."""
    dropout: float


class ScoredAttentionLayer(AttentionLayer):
    """The module of an attention that makes its own scores: a map of values, and the output projection."""

    def __init__(self, choice: ScoredAttention, hidden: int) -> None:
        super().__init__()
        self.choice: ScoredAttention = choice
        heads, self.head_size = choice.head_sizes(hidden)
        self.value = nn.Linear(hidden, heads * self.head_size, bias=choice.bias)
        self.out = nn.Linear(heads * self.head_size, hidden, bias=choice.bias)

    def plan(self, context: Context) -> ScoredPlan:
        """Return the mask of a batch, and its position bias."""
        side = Side.of(context.packed)
        added = None if context.bias is None else context.bias(side, side)
        dropout = self.choice.dropout if context.training else 0.0
        return ScoredPlan(side, allowed(side, side, self.choice.mask)[:, None], added, dropout)

    @abstractmethod
    def scores(self, x: Tensor, plan: ScoredPlan) -> Tensor:
        """Return the scores (R, A, Q, K), or (1, A, Q, K) where they are the same in all rows."""

    def forward(self, x: Tensor, plan: ScoredPlan, state: None = None) -> Tensor:
        """Forward pass: return (T, H)."""
        return self.out(self.mixed(self.weights(x, plan), x, plan).transpose(1, 2).flatten(0, 1).flatten(1))  # type: ignore[no-any-return]

    def weights(self, x: Tensor, plan: ScoredPlan) -> Tensor:
        """Return the attention probabilities (R, A, Q, K), the softmax in float32 at least."""
        scores = self.scores(x, plan)
        if plan.added is not None:
            scores = scores + plan.added
        wide = torch.promote_types(torch.float32, scores.dtype)
        return scores.masked_fill(~plan.mask, -torch.inf).softmax(-1, dtype=wide).to(x.dtype)

    def mixed(self, weights_RAQK: Tensor, x: Tensor, plan: ScoredPlan) -> Tensor:
        """Return the values (R, A, Q, D) in the mean of these weights."""
        return F.dropout(weights_RAQK, plan.dropout) @ self.in_rows(self.value(x), plan).to(weights_RAQK.dtype)

    def in_rows(self, x: Tensor, plan: ScoredPlan) -> Tensor:
        """Return (T, A D) as rows by heads (R, A, L, D)."""
        return torch.unflatten(self.by_head(x), 0, (-1, plan.side.row_length)).transpose(1, 2)

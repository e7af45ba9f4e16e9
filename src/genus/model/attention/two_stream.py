"""XLNet's attention: two streams of states, and relative segment encodings.

Legend: R rows, L row length, M remembered positions, K = M + L keys, Q queries, A heads, D numbers a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from genus.model.attention.relative import RelativeAttention, RelativeAttentionLayer, RelativePlan
from genus.model.cost import ComponentCost

if TYPE_CHECKING:
    from genus.batch import Packed
    from genus.model.initialization import Initialization


class TwoStreamAttention(RelativeAttention):
    """Relative attention with (W_q x_i + b) · s more in the score, s for keys of the same segment or for the others.

    Cells (the content stream) and the second states of cells to predict (the query stream) are queries of the same
    keys and values, those of the cells: what both need is computed once.

    Source: Yang et al. 2019, sections 2.3 and 2.5.
    """

    queries: ClassVar[bool] = True

    def build(self, hidden: int) -> RelativeAttentionLayer:
        """Return the layer."""
        return TwoStreamAttentionLayer(self, hidden)

    def cost(self, hidden: int, length: int) -> ComponentCost:
        """Return relative attention's demand and that of the segment encodings, of a cell."""
        return super().cost(hidden, length) + ComponentCost(3 * hidden, 2.0 * 2 * hidden)


class TwoStreamAttentionLayer(RelativeAttentionLayer):
    """The module of two-stream attention."""

    def __init__(self, choice: TwoStreamAttention, hidden: int) -> None:
        super().__init__(choice, hidden)
        self.segment_bias = nn.Parameter(torch.zeros(choice.heads, self.head_size))
        self.segments = nn.Parameter(torch.zeros(2, choice.heads, self.head_size))

    def init_weights(self, initialization: Initialization) -> None:
        """Draw b and s too as weights are (released code)."""
        super().init_weights(initialization)
        for vector in (self.segment_bias, self.segments):
            initialization.draw(vector, "vector")

    def other_segment(self, packed: Packed, memory: int) -> Tensor:
        """Return (R, 1, Q, K) bool; what is remembered is of segment 0."""
        segment = packed.facts["segment"]
        own = segment.view(-1, packed.row_length)
        keys = torch.cat([own.new_zeros(len(own), memory), own], 1)
        if packed.query is not None:
            own = torch.cat([own, segment[packed.query]], 1)
        return (own[:, :, None] != keys[:, None, :])[:, None]

    def segment_scores(self, q_RAQD: Tensor, seen: RelativePlan) -> Tensor:
        """Return (W_q x_i + b) · s of every query and key (R, A, Q, K)."""
        assert seen.segments is not None
        scores_RAQS = (q_RAQD + self.segment_bias[:, None]) @ self.segments.permute(1, 2, 0)
        same, other = torch.split(scores_RAQS, 1, dim=-1)
        return torch.where(seen.segments, other, same)

"""XLNet's two-stream attention, with relative segment encodings."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from genus.model.attention.relative import RelativeAttention, RelativeAttentionLayer, RelativePlan
from genus.model.cost import ComponentCost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genus.batch import Packed
    from genus.model.initialization import Initialization
    from genus.model.split import Split


class TwoStreamAttention(RelativeAttention):
    """Two-stream attention: relative attention with a segment term (W_q x_i + b) · s_same or (W_q x_i + b) · s_other.

    The content stream (all tokens) and the query stream (tokens to predict) attend to the same keys and values, those
    of the content stream, which are computed once.

    Source: Yang et al. 2019, sections 2.3 and 2.5.
    """

    queries: ClassVar[bool] = True

    def build(self, hidden: int) -> RelativeAttentionLayer:
        """Return the module for hidden states of size H = `hidden`."""
        return TwoStreamAttentionLayer(self, hidden)

    def cost(self, hidden: int, length: int) -> ComponentCost:
        """Return the cost per token of relative attention and of the segment encodings."""
        return super().cost(hidden, length) + ComponentCost(3 * hidden, 2.0 * 2 * hidden)


class TwoStreamAttentionLayer(RelativeAttentionLayer):
    """The module of two-stream attention."""

    def __init__(self, choice: TwoStreamAttention, hidden: int) -> None:
        super().__init__(choice, hidden)
        self.segment_bias = nn.Parameter(torch.zeros(choice.heads, self.head_size))
        self.segments = nn.Parameter(torch.zeros(2, choice.heads, self.head_size))

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize the weights, and b and s as weights too (released code)."""
        super().init_weights(initialization)
        for vector in (self.segment_bias, self.segments):
            initialization.draw(vector, "vector")

    def shardings(self) -> Mapping[str, Split | int]:
        """Return the split by heads."""
        return {**super().shardings(), "segment_bias": 0, "segments": 1}

    def other_segment(self, packed: Packed, memory: int) -> Tensor:
        """Return (R, 1, Q, K) bool, true for pairs of different segments; the memory is of segment 0."""
        segment = packed.facts["segment"]
        own = segment.view(-1, packed.row_length)
        keys = torch.cat([own.new_zeros(len(own), memory), own], 1)
        if packed.query is not None:
            own = torch.cat([own, segment[packed.query]], 1)
        return (own[:, :, None] != keys[:, None, :])[:, None]

    def segment_scores(self, q_RAQD: Tensor, seen: RelativePlan) -> Tensor:
        """Return the segment term (W_q x_i + b) · s of the scores (R, A, Q, K)."""
        assert seen.segments is not None
        scores_RAQ2 = (q_RAQD + self.segment_bias[:, None]) @ self.segments.permute(1, 2, 0)
        same, other = torch.split(scores_RAQ2, 1, dim=-1)
        return torch.where(seen.segments, other, same)

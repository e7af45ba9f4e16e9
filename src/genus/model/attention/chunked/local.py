"""Chunked local attention (Kitaev et al. 2020, released code: SelfAttention with a chunk length).

Here K = W b.

Legend: b tokens of a chunk, of a block or of a strip; C chunks or blocks, of a batch or of a part of it; S slots for
tokens in all chunks or blocks; W chunks or blocks of a window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from genus.model.attention import AttentionLayer
from genus.model.attention.chunked import ChunkedAttention
from genus.model.attention.chunked.layout import ChunkIndex, ChunkLayout, in_chunks, padded, with_neighbors
from genus.model.attention.masks import AttentionMask, Full, Place
from genus.model.cost import ComponentCost, linear_cost
from genus.part import Fraction

if TYPE_CHECKING:
    from genus.model.attention.plan import Context


class ChunkedLocalAttention(ChunkedAttention):
    """Local attention: concat_a(softmax(q_a k_aᵀ / √D) v_a) W_out over a chunk and its neighbors in the sequence.

    The linear layers have no bias.
    """

    dropout: Fraction = 0.1
    """Dropout probability of the attention probabilities, in training."""
    mask: AttentionMask = Full()

    def build(self, hidden: int) -> AttentionLayer:
        """Return the module for hidden states of size H = `hidden`."""
        return ChunkedLocalAttentionLayer(self, hidden)

    def cost(self, hidden: int, length: int) -> ComponentCost:
        """Return the cost per token of the projections and of two products with W b keys and values."""
        inner = self.heads * self.head_size
        products = ComponentCost(flops=4.0 * min(length, self.seen) * inner, activations=3 * inner)
        return linear_cost(hidden, 3 * inner, bias=False) + products + linear_cost(inner, hidden, bias=False)


class ChunkedLocalAttentionLayer(AttentionLayer):
    """The module of local attention."""

    choice: ChunkedLocalAttention

    def __init__(self, choice: ChunkedLocalAttention, hidden: int) -> None:
        super().__init__()
        self.choice, self.head_size = choice, choice.head_size
        self.query = nn.Linear(hidden, choice.heads * choice.head_size, bias=False)
        self.key = nn.Linear(hidden, choice.heads * choice.head_size, bias=False)
        self.value = nn.Linear(hidden, choice.heads * choice.head_size, bias=False)
        self.out = nn.Linear(choice.heads * choice.head_size, hidden, bias=False)

    def plan(self, context: Context) -> ChunkLayout:
        """Return the chunk layout of the batch."""
        return ChunkLayout(context.packed)

    def forward(self, x: Tensor, shared: ChunkLayout, state: None = None) -> Tensor:
        """Forward pass: return (T, H)."""
        choice = self.choice
        seats = shared.seats(choice)
        q_ASD, k_ASD, v_ASD = (
            padded(self.by_head(project(x)))[seats.gather_index].transpose(0, 1)
            for project in (self.query, self.key, self.value)
        )
        q_CAbD = in_chunks(q_ASD, seats).transpose(0, 1)
        k_CAKD, v_CAKD = (with_neighbors(y, seats).transpose(0, 1) for y in (k_ASD, v_ASD))
        mask_CbK = self._mask(seats, shared)
        dropout = choice.dropout if self.training else 0.0
        out_CAbD = F.scaled_dot_product_attention(q_CAbD, k_CAKD, v_CAKD, mask_CbK[:, None], dropout)
        return self.out(out_CAbD.transpose(1, 2).flatten(0, 1)[seats.scatter_index[0]].flatten(1))  # type: ignore[no-any-return]

    def _mask(self, seats: ChunkIndex, shared: ChunkLayout) -> Tensor:
        """Return the attention mask (C, b, W b) bool; empty slots attend to all slots, no token attends to them."""
        position_Cb = padded(shared.positions, -1)[seats.gather_index].view(len(seats.neighbors), -1)
        position_CK = position_Cb[seats.neighbors].flatten(1)
        seen = position_CK[:, None] >= 0
        rule = self.choice.mask.allowed(Place(position_Cb[:, :, None]), Place(position_CK[:, None]))
        return (seen if rule is None else seen & rule) | (position_Cb[:, :, None] < 0)

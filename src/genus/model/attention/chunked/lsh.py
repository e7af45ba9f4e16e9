"""Locality-sensitive hashing (LSH) attention (Kitaev et al. 2020, section 2 and appendix A).

Here K = W b.

Legend: b tokens of a chunk, of a block or of a strip; C chunks or blocks, of a batch or of a part of it; I rounds of
hashing; S slots for tokens in all chunks or blocks; W chunks or blocks of a window.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.model.attention import AttentionLayer
from genus.model.attention.chunked import ChunkedAttention
from genus.model.attention.chunked.layout import ChunkIndex, ChunkLayout, in_chunks, padded, with_neighbors
from genus.model.attention.masks import AttentionMask, Full, Place
from genus.model.cost import ComponentCost, linear_cost
from genus.part import Count, Fraction

if TYPE_CHECKING:
    from genus.model.attention.plan import Context

HIDDEN, ITSELF = -1e9, -1e5
"""Scores of masked pairs, and of a token with itself: it attends to itself only if it attends to no other token."""
EPSILON = 1e-6
"""Added to the mean square by which keys are divided (released code)."""
SEED = 0
"""Seed of the rotations in evaluation, for reproducible results; in training every forward pass draws new ones."""


class LSHAttention(ChunkedAttention):
    """LSH attention: Σ_r exp(z_r - log Σ exp z) softmax_r(q kᵀ / √D) v, projected, with k = q √D / |q|.

    z_r is the log normalizer of the softmax of round r. In each of I rounds the tokens of a sequence are sorted by hash
    bucket, then by position, and cut into chunks; a token attends to its own chunk and to neighboring chunks, whose
    tokens mostly have the same hash. The linear layers have no bias.

    Source: Kitaev et al. 2020, section 2, equations 2 to 6. As in the released code, and unlike appendix A: a key that
    a query meets in several rounds counts in each of them, and the chunk before the first one of a round is the last
    one of the round before. Under a causal mask, later tokens still move the boundaries of chunks.
    """

    num_hashes: Count = 1
    """I, the number of rounds of hashing."""
    num_buckets: tuple[int, ...] = (64,)
    """Even numbers, one per rotation, whose product is the number of hash buckets."""
    attend_across_buckets: bool = True
    """Attend to tokens of other buckets too, where they share a chunk (released code: attend_across_buckets)."""
    dropout: Fraction = 0.0
    """Dropout probability of the attention probabilities, in training."""
    mask: AttentionMask = Full()

    @property
    def in_words(self) -> str:
        """The kind of hashing, and the number of rounds."""
        return f"locality-sensitive hashing ({self.num_hashes} rounds)"

    def __post_init__(self) -> None:
        """Check that the numbers of buckets are even, as a rotation gives two buckets per direction (ValueError)."""
        if not self.num_buckets or any(number < 2 or number % 2 for number in self.num_buckets):
            raise ValueError(
                f"attention.num_buckets: a rotation and its opposite tell an even number, not {self.num_buckets}"
            )

    def build(self, hidden: int) -> AttentionLayer:
        """Return the module for hidden states of size H = `hidden`."""
        return LSHAttentionLayer(self, hidden)

    def cost(self, hidden: int, length: int) -> ComponentCost:
        """Return the cost per token of projections and rotations, and in each round of products with W b keys."""
        inner = self.heads * self.head_size
        pairs = 4.0 * self.num_hashes * min(length, self.seen) * inner
        hashing = self.num_hashes * inner * sum(self.num_buckets)
        maps = linear_cost(hidden, 2 * inner, bias=False) + linear_cost(inner, hidden, bias=False)
        return maps + ComponentCost(
            flops=pairs, forward_only_flops=hashing, activations=2 * inner * (1 + self.num_hashes)
        )


class LSHAttentionLayer(AttentionLayer):
    """The module of LSH attention; one linear layer `query_key` makes both queries and keys."""

    choice: LSHAttention

    def __init__(self, choice: LSHAttention, hidden: int) -> None:
        super().__init__()
        self.choice, self.head_size = choice, choice.head_size
        self.query_key = nn.Linear(hidden, choice.heads * choice.head_size, bias=False)
        self.value = nn.Linear(hidden, choice.heads * choice.head_size, bias=False)
        self.out = nn.Linear(choice.heads * choice.head_size, hidden, bias=False)

    def plan(self, context: Context) -> ChunkLayout:
        """Return the chunk layout of the batch."""
        return ChunkLayout(context.packed)

    def forward(self, x: Tensor, shared: ChunkLayout, state: None = None) -> Tensor:
        """Forward pass: return (T, H)."""
        q_ATD, v_ATD = (
            self.by_drawn_head(project(x), self.choice.heads).transpose(0, 1)
            for project in (self.query_key, self.value)
        )
        out_ATD = self.attend(q_ATD, v_ATD, self.hash(q_ATD), shared)
        return self.out(out_ATD.transpose(0, 1).flatten(1))  # type: ignore[no-any-return]

    @torch.no_grad()
    def hash(self, q_ATD: Tensor) -> Tensor:
        """Return hash buckets (A, I, T): argmax of [x Ω, -x Ω] for random directions Ω, per factor of `num_buckets`."""
        choice, wide = self.choice, torch.promote_types(q_ATD.dtype, torch.float32)
        halves = [number // 2 for number in choice.num_buckets]
        with torch.autocast(q_ATD.device.type, enabled=False):
            x_ATD = q_ATD.to(wide)
            bucket_AIT, scale = torch.zeros((), dtype=torch.int64, device=q_ATD.device), 1
            for turned in torch.split(self._rotations(x_ATD, sum(halves)), halves, -1):
                told = [x_ATD @ turned[:, :, r] for r in range(choice.num_hashes)]
                bucket_AIT = bucket_AIT + scale * torch.stack([torch.cat([y, -y], -1).argmax(-1) for y in told], 1)
                scale *= 2 * turned.shape[-1]
        return bucket_AIT

    def _rotations(self, like_ATD: Tensor, directions: int) -> Tensor:
        """Return random rotations (A, D, I, directions) from the standard normal distribution."""
        shape = (self.choice.heads, self.choice.head_size, self.choice.num_hashes, directions)
        if self.training:
            return torch.randn(shape, dtype=like_ATD.dtype, device=like_ATD.device)
        generator = torch.Generator().manual_seed(SEED)
        return torch.randn(shape, dtype=like_ATD.dtype, generator=generator).to(like_ATD.device)

    def attend(self, q_ATD: Tensor, v_ATD: Tensor, bucket_AIT: Tensor, shared: ChunkLayout) -> Tensor:
        """Return attention outputs (A, T, D): those of the rounds, weighted by their softmax normalizers."""
        seats, tokens = shared.seats(self.choice, self.choice.num_hashes), len(shared.number)
        number = math.prod(self.choice.num_buckets)
        # sorted by sequence first, so that in every round a sequence has the same range of indices, and its own chunks
        order_AIT = (shared.number * number + bucket_AIT).argsort(stable=True, dim=-1)
        token_AS = F.pad(order_AIT.flatten(1), (0, 1), value=tokens)[:, seats.gather_index]
        round_I1 = torch.arange(self.choice.num_hashes, device=q_ATD.device)[:, None]
        group_AIT = bucket_AIT.gather(-1, order_AIT) + number * round_I1
        group_AS = F.pad(group_AIT.flatten(1), (0, 1), value=-1)[:, seats.gather_index]
        out_ASD, weight_AS = self._by_chunk(q_ATD, v_ATD, token_AS, group_AS, seats, shared)
        place_AIT = torch.empty_like(order_AIT)
        place_AIT.scatter_(-1, order_AIT, torch.arange(tokens, device=q_ATD.device).expand_as(order_AIT))
        seat_AIT = seats.scatter_index.expand_as(place_AIT).gather(-1, place_AIT)
        weight_AIT = weight_AS.gather(1, seat_AIT.flatten(1)).view_as(order_AIT).masked_fill(seats.invalid, -torch.inf)
        share_AIT = (weight_AIT - weight_AIT.logsumexp(1, keepdim=True)).exp().to(out_ASD.dtype)
        out_AITD = _taken(out_ASD, seat_AIT.flatten(1)).view(*order_AIT.shape, -1)
        return (share_AIT[..., None] * out_AITD).sum(1)

    def _by_chunk(
        self, q_ATD: Tensor, v_ATD: Tensor, token_AS: Tensor, group_AS: Tensor, seats: ChunkIndex, shared: ChunkLayout
    ) -> tuple[Tensor, Tensor]:
        """Return the outputs (A, S, D) of each slot, and the log normalizers (A, S) of its softmax."""
        k_ATD = q_ATD * ((q_ATD * q_ATD).mean(-1, keepdim=True) + EPSILON).rsqrt() / self.choice.head_size**0.5
        q_ASD, k_ASD, v_ASD = (_taken(F.pad(y, (0, 0, 0, 1)), token_AS) for y in (q_ATD, k_ATD, v_ATD))
        q_ACbD = in_chunks(q_ASD, seats)
        score_ACbK = q_ACbD @ with_neighbors(k_ASD, seats).mT
        score_ACbK = score_ACbK.to(torch.promote_types(score_ACbK.dtype, torch.float32))
        asking_ACb1, asked_AC1K = _pairs(token_AS, seats)
        position_T = padded(shared.positions, -1)
        seen = asked_AC1K < len(shared.number)
        rule = self.choice.mask.allowed(Place(position_T[asking_ACb1]), Place(position_T[asked_AC1K]))
        if rule is not None:
            seen = seen & rule
        if not self.choice.attend_across_buckets:
            seen = seen & torch.eq(*_pairs(group_AS, seats))
        score_ACbK.masked_fill_(~seen, HIDDEN).masked_fill_(asking_ACb1 == asked_AC1K, ITSELF)
        weight_ACb1 = score_ACbK.logsumexp(-1, keepdim=True)
        chance_ACbK = F.dropout((score_ACbK - weight_ACb1).exp(), self.choice.dropout, self.training)
        out_ACbD = chance_ACbK.to(v_ASD.dtype) @ with_neighbors(v_ASD, seats)
        return out_ACbD.flatten(1, 2), weight_ACb1.flatten(1)


def _pairs(of_AS: Tensor, seats: ChunkIndex) -> tuple[Tensor, Tensor]:
    """Return values of slots (A, S) as (A, C, b, 1) for queries and as (A, C, 1, K) for keys."""
    return in_chunks(of_AS[..., None], seats), with_neighbors(of_AS[..., None], seats).mT


def _taken(x_ATD: Tensor, index_AS: Tensor) -> Tensor:
    """Gather (A, S, D) from (A, T, D) by the indices of each head."""
    return x_ATD.gather(1, index_AS[:, :, None].expand(-1, -1, x_ATD.shape[-1]))

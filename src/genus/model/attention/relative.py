"""Attention by content and by distance, within a sequence and back into what is remembered of it.

Legend: T cells, R rows, L row length, M remembered positions, K = M + L keys of a row, P second states of a row,
Q = L + P queries of a row, A heads, D numbers a head, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.model.attention import Attention, AttentionLayer
from genus.model.attention.masks import AttentionMask, Full, Place
from genus.model.cost import ComponentCost
from genus.part import Count, Fraction

if TYPE_CHECKING:
    from genus.batch import Memory, Packed
    from genus.model.attention.plan import Context
    from genus.model.initialization import Initialization


class RelativeAttention(Attention):
    """softmax over k of ((W_q x_i + u) · W_k x_j + (W_q x_i + v) · W_r r(i - j)) / sqrt(D), times W_v x_j, projected.

    The four terms: content by content, content by distance, and u and v for what is sought whatever the query. Distance
    d is r(d) = (sin d ω, cos d ω), ω = 10000^(-2n / H). Keys and values are of the row and of what is remembered.

    Source: Dai et al. 2019, section 3.3. Deviation: u and v are each layer's own, as in the released large models.
    """

    queries: ClassVar[bool] = False
    """Whether a second state, one that does not know what stands in its cell, goes through the layers too."""

    heads: Count
    dropout: Fraction = 0.1
    """On the attention probabilities, in training."""
    mask: AttentionMask = Full()
    clamp_len: Count | None = None
    """Distances beyond this one are taken for it."""

    @property
    def in_words(self) -> str:
        """Its heads, and who sees whom."""
        return ", ".join(part for part in (super().in_words, f"{self.heads} heads", self.mask.in_words) if part)

    def check(self, hidden: int) -> None:
        """Refuse heads that do not divide the hidden size, and a hidden size that sines and cosines do not halve."""
        if self.heads < 1 or hidden % self.heads:
            raise ValueError(f"{self.heads} attention heads do not divide a hidden size of {hidden}")
        if hidden % 2:
            raise ValueError(f"a hidden size of {hidden} is odd: distances are told by sines and cosines, half of each")

    def build(self, hidden: int) -> RelativeAttentionLayer:
        """Return the layer."""
        return RelativeAttentionLayer(self, hidden)

    def cost(self, hidden: int, length: int) -> ComponentCost:
        """Return the maps, and products with as many keys, distances and values."""
        products = ComponentCost(flops=3 * 2.0 * length * hidden, activations=4 * hidden)
        return ComponentCost(5 * hidden * hidden + 2 * hidden, 2.0 * 4 * hidden * hidden, 2 * hidden) + products

    def extra_cost(self, hidden: int, length: int, memory: int) -> ComponentCost:
        """Return what distances demand beside those counted for as many keys: the others, and the map of them all."""
        number = num_relative_positions(length, memory, self.mask)
        return ComponentCost(
            flops=2.0 * (number - length - memory) * hidden, frozen_input_flops=2.0 * number * hidden * hidden
        )


@dataclass(frozen=True, slots=True)
class RelativePlan:
    """What the layers of a stack share for a batch."""

    packed: Packed
    mask: Tensor
    """(R, 1, Q, K) bool, true where attention is allowed."""
    blind: Tensor | None
    """(R, Q, 1, 1) bool, true for queries that see nothing; None where every one sees itself."""
    distances: Tensor
    """(1 or 2, N, H) encodings of the distances from K down; the second row is for rows that run backward."""
    segments: Tensor | None
    """(R, 1, Q, K) bool, true where query and key are of different segments; None where nobody asks."""
    dropout: float = 0.0


class RelativeAttentionLayer(AttentionLayer):
    """The module of relative attention; no map has a bias."""

    choice: RelativeAttention

    def __init__(self, choice: RelativeAttention, hidden: int) -> None:
        super().__init__()
        heads, size = choice.heads, hidden // choice.heads
        self.choice, self.hidden, self.head_size = choice, hidden, size
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.value = nn.Linear(hidden, hidden, bias=False)
        self.relative = nn.Linear(hidden, hidden, bias=False)
        self.out = nn.Linear(hidden, hidden, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(heads, size))
        self.position_bias = nn.Parameter(torch.zeros(heads, size))

    def init_weights(self, initialization: Initialization) -> None:
        """Draw u and v too as weights are (released code)."""
        super().init_weights(initialization)
        for vector in (self.content_bias, self.position_bias):
            initialization.draw(vector, "vector")

    def plan(self, context: Context) -> RelativePlan:
        """Return what all layers share: of the batch, and of which memories are of the text that goes on."""
        packed = context.packed
        remembered = visible(packed, context.memory) if context.memory else None
        memory = 0 if remembered is None else remembered.shape[1]
        mask = attention_mask(packed, self.choice.mask, remembered)
        return RelativePlan(
            packed=packed,
            mask=mask[:, None],
            blind=None if packed.query is None else ~mask.any(-1)[:, :, None, None],
            distances=self._distances(packed, memory),
            segments=self.other_segment(packed, memory),
            dropout=self.choice.dropout if context.training else 0.0,
        )

    def other_segment(self, packed: Packed, memory: int) -> Tensor | None:
        """Return which pairs are of different segments, where that matters."""
        return None

    def segment_scores(self, q_RAQD: Tensor, seen: RelativePlan) -> Tensor | float:
        """Return what segments add to the scores (R, A, Q, K)."""
        return 0.0

    def forward(self, x: Tensor, shared: RelativePlan, state: Tensor | None = None) -> Tensor:
        """Return (T, H), or (T + R P, H) for the cells and the second states after them.

        The state (R, M, H) is what the layer before remembers.
        """
        rows, length = len(shared.mask), shared.packed.row_length
        cells_RLH = x[: rows * length].view(rows, length, -1)
        q_RAQD = by_rows(self.by_head(self.query(x)), rows, length).transpose(1, 2)
        k_RAKD, v_RAKD = (self._known(project, cells_RLH, state) for project in (self.key, self.value))
        scores = (q_RAQD + self.content_bias[:, None]) @ k_RAKD.transpose(-1, -2)
        scores = scores + self._by_distance(q_RAQD + self.position_bias[:, None], shared)
        scores = scores + self.segment_scores(q_RAQD, shared)
        out_RQAD = mix(scores * self.head_size**-0.5, v_RAKD, shared)
        cells, second = torch.split(out_RQAD, [length, out_RQAD.shape[1] - length], dim=1)
        return self.out(torch.cat([cells.flatten(0, 1), second.flatten(0, 1)]).flatten(1))  # type: ignore[no-any-return]

    def _known(self, project: nn.Linear, cells_RLH: Tensor, memory_RMH: Tensor | None) -> Tensor:
        """Return keys or values (R, A, K, D) of what is remembered and of the cells."""
        known = project(cells_RLH)
        if memory_RMH is not None:  # apart from the cells, as it has no gradient
            known = torch.cat([project(memory_RMH.to(cells_RLH.dtype)), known], 1)
        return self.by_head(known).transpose(1, 2)

    def _by_distance(self, q_RAQD: Tensor, seen: RelativePlan) -> Tensor:
        """Return q_i · W_r r(i - j) for every query and key (R, A, Q, K)."""
        r_BAND = self.by_head(self.relative(seen.distances)).transpose(1, 2)
        if backward(seen.packed) is None:
            scores_RAQN = torch.einsum("raqd,and->raqn", q_RAQD, r_BAND[0])
        else:
            scores_RAQN = q_RAQD @ r_BAND[backward(seen.packed)].transpose(-1, -2)
        length, keys = seen.packed.row_length, seen.mask.shape[-1]
        cells, second = torch.split(scores_RAQN, [length, scores_RAQN.shape[2] - length], dim=2)
        shifted = shift(cells, keys)
        if seen.packed.query is None:
            return shifted
        place_RP = seen.packed.query % length
        entry_RPK = (length - place_RP)[:, :, None] + torch.arange(keys, device=place_RP.device)
        last = scores_RAQN.shape[-1] - 1
        index = entry_RPK.clamp(max=last)[:, None].expand(-1, scores_RAQN.shape[1], -1, -1)
        return torch.cat([shifted, second.gather(-1, index)], dim=2)

    def _distances(self, packed: Packed, memory: int) -> Tensor:
        """Return the encodings of the distances from K down, and of their opposites where a row runs backward."""
        number, like = num_relative_positions(packed.row_length, memory, self.choice.mask), next(self.parameters())
        first = memory + packed.row_length
        distance = torch.arange(first, first - number, -1, device=like.device, dtype=like.dtype)
        if self.choice.clamp_len is not None:
            distance = distance.clamp(-self.choice.clamp_len, self.choice.clamp_len)
        ways = [distance] if backward(packed) is None else [distance, -distance]
        return torch.stack([encoded(way, self.hidden) for way in ways])


def by_rows(x_TAD: Tensor, rows: int, length: int) -> Tensor:
    """Return (R, Q, A, D): each row's cells and, after them, its second states."""
    cells, second = torch.split(x_TAD, [rows * length, len(x_TAD) - rows * length])
    return torch.cat([torch.unflatten(part, 0, (rows, -1)) for part in (cells, second)], dim=1)


def mix(scores: Tensor, v_RAKD: Tensor, seen: RelativePlan) -> Tensor:
    """Return the values (R, Q, A, D) mixed by the softmax of scores, taken in float32 at least; 0 for the blind."""
    wide = torch.promote_types(torch.float32, scores.dtype)
    chances = scores.to(wide).masked_fill(~seen.mask, torch.finfo(wide).min).softmax(-1).to(v_RAKD.dtype)
    out_RQAD = (F.dropout(chances, seen.dropout) @ v_RAKD).transpose(1, 2)
    return out_RQAD if seen.blind is None else out_RQAD.masked_fill(seen.blind, 0.0)


def attention_mask(packed: Packed, visibility: AttentionMask, remembered: Tensor | None) -> Tensor:
    """Return (R, Q, K) bool: tokens of a sequence by the rule and the order; what is remembered, by its sequence.

    A cell sees itself; a second state sees what comes before its cell in the order, not its cell.
    """
    length = packed.row_length
    number, position = packed.sequence.view(-1, length), packed.positions.view(-1, length)
    mask = number[:, :, None] == number[:, None, :]
    rule = visibility.allowed(Place(position[:, :, None]), Place(position[:, None, :]))
    mask = mask if rule is None else mask & rule
    strict = mask
    if "order" in packed.facts:
        order = packed.facts["order"].view(-1, length)
        mask = mask & (order[:, :, None] >= order[:, None, :])
        strict = strict & (order[:, :, None] > order[:, None, :])
    first = number == number[:, :1]
    if remembered is not None:
        back = first[:, :, None] & remembered[:, None, :]
        mask, strict = torch.cat([back, mask], -1), torch.cat([back, strict], -1)
    if packed.query is None:
        return mask
    place = (packed.query % length)[:, :, None].expand(-1, -1, mask.shape[-1])
    return torch.cat([mask, strict.gather(1, place)], 1)


def visible(packed: Packed, memory: Memory) -> Tensor:
    """Return (R, M) bool: what is remembered of the text that goes on in the row."""
    assert packed.flow is not None, "only batches of streams are remembered"
    return memory["remembered"] & packed.flow.continues[:, None]


def backward(packed: Packed) -> Tensor | None:
    """Return (R,) 1 for rows that run backward and 0 for others; None where no row runs backward."""
    flow = packed.flow
    return None if flow is None or flow.backward is None else flow.backward.long()


def num_relative_positions(length: int, memory: int, visibility: AttentionMask) -> int:
    """Return how many distances there are encodings for: from length + memory down to 0, or on to 1 - length."""
    return length + memory + (1 if visibility.causal else length)


def shift(scores: Tensor, keys: int) -> Tensor:
    """Return (..., L, K) out of scores by distance (..., L, N), whose entry n is for distance K - n.

    Entry (i, j) is at n = L - i + j: each row begins one entry before the row above. So laid out flat and cut into rows
    that are one shorter, all begin at one place (Dai et al. 2019, appendix B).
    """
    length = scores.shape[-2]
    return torch.unflatten(scores.flatten(-2)[..., length:], -1, (length, -1))[..., :keys]


def encoded(distance: Tensor, hidden: int) -> Tensor:
    """Return (N, H): sines, then cosines, of distances (N,) times 10000^(-2n / H)."""
    rate = 10000.0 ** (-torch.arange(0, hidden, 2, device=distance.device, dtype=distance.dtype) / hidden)
    angle = distance[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], -1)

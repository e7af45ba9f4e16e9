"""Relative attention with segment-level recurrence (Transformer-XL): scores by content and by relative position.

Here K = B + L, and Q = L + P.

Legend: B remembered positions before a row; P positions of a row that have a second (query) stream; X distances between
queries and keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.model.attention import Attention, AttentionLayer
from genus.model.attention.cached_relative import CachedRelativePlan, attend_relative, cached_plan, shift
from genus.model.attention.masks import AttentionMask, Full, Place
from genus.model.cost import ComponentCost
from genus.model.position.sinusoidal import encoded
from genus.part import Count, Fraction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genus.batch import Memory, Packed
    from genus.model.attention.plan import Context
    from genus.model.cache import LayerCache
    from genus.model.initialization import Initialization
    from genus.model.split import Split


class RelativeAttention(Attention):
    """Relative attention: scores ((W_q x_i + u) · W_k x_j + (W_q x_i + v) · W_r r(i - j)) / sqrt(D), softmax over j.

    The output is the projected sum of weights times W_v x_j. The four terms of a score: content by content, content by
    distance, and the biases u and v, which do not depend on the query. Distance d is encoded as
    r(d) = (sin d ω, cos d ω), ω = 10000^(-2n / H). Keys and values are those of the row and of the memory.

    Source: Dai et al. 2019, section 3.3. Deviation: u and v are each layer's own, as in the released large models.
    """

    queries: ClassVar[bool] = False
    """Whether a query stream, whose states do not depend on the content of their token, passes the layers too."""

    heads: Count
    dropout: Fraction = 0.1
    """Dropout probability of the attention probabilities, in training."""
    mask: AttentionMask = Full()
    clamp_len: Count | None = None
    """Distances are clamped to at most this many tokens; None: no clamp."""

    @property
    def in_words(self) -> str:
        """The name, the number of heads, and the attention mask."""
        return ", ".join(part for part in (super().in_words, f"{self.heads} heads", self.mask.in_words) if part)

    def check(self, hidden: int) -> None:
        """Check that the heads divide the hidden size, and that it is even, for sines and cosines (ValueError)."""
        if self.heads < 1 or hidden % self.heads:
            raise ValueError(f"{self.heads} attention heads do not divide a hidden size of {hidden}")
        if hidden % 2:
            raise ValueError(f"a hidden size of {hidden} is odd: distances are told by sines and cosines, half of each")

    def build(self, hidden: int) -> RelativeAttentionLayer:
        """Return the module for hidden states of size H = `hidden`."""
        return RelativeAttentionLayer(self, hidden)

    def cost(self, hidden: int, length: int) -> ComponentCost:
        """Return the cost per token of the projections, and of products with `length` keys, distances and values."""
        products = ComponentCost(flops=3 * 2.0 * length * hidden, activations=4 * hidden)
        return ComponentCost(5 * hidden * hidden + 2 * hidden, 2.0 * 4 * hidden * hidden, 2 * hidden) + products

    def extra_cost(self, hidden: int, length: int, memory: int) -> ComponentCost:
        """Return the cost that `cost` leaves out: distances beyond one per key, and the projection W_r of all."""
        number = num_relative_positions(length, memory, self.mask)
        return ComponentCost(
            flops=2.0 * (number - length - memory) * hidden, frozen_input_flops=2.0 * number * hidden * hidden
        )


@dataclass(frozen=True, slots=True)
class RelativePlan:
    """The plan of relative attention: what the layers of a stack share for a batch."""

    packed: Packed
    mask: Tensor
    """(R, 1, Q, K) bool attention mask, true where attention is allowed."""
    blind: Tensor | None
    """(R, Q, 1, 1) bool, true for queries that attend to no key; None: every query attends to itself."""
    distances: Tensor
    """(1 or 2, X, H) encodings of the distances from K down; the second set is for rows that run backward."""
    segments: Tensor | None
    """(R, 1, Q, K) bool, true where query and key differ in segment; None: scores do not depend on it."""
    dropout: float = 0.0


class RelativeAttentionLayer(AttentionLayer):
    """The module of relative attention; its linear layers have no bias."""

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
        """Initialize the weights, and u and v as weights too (released code)."""
        super().init_weights(initialization)
        for vector in (self.content_bias, self.position_bias):
            initialization.draw(vector, "vector")

    def shardings(self) -> Mapping[str, Split | int]:
        """Return the split by heads."""
        of_heads: dict[str, Split | int] = dict.fromkeys(("query", "key", "value", "relative"), "column")
        return {**of_heads, "out": "row", "content_bias": 0, "position_bias": 0}

    def cache_shape(self) -> tuple[int, int] | None:
        """Return A and D; None where a token attends to later ones."""
        return (self.choice.heads, self.head_size) if self.choice.mask.causal else None

    def plan(self, context: Context) -> RelativePlan | CachedRelativePlan:
        """Return the plan of all layers: the attention mask over the batch and over the memory of continued text.

        With a cache, new tokens attend to their slots instead.
        """
        packed = context.packed
        if context.cache is not None:
            return cached_plan(context.cache, packed, self.choice.mask)
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
        """Return (R, 1, Q, K) bool, true for pairs of different segments; None: scores do not depend on it."""
        return None

    def segment_scores(self, q_RAQD: Tensor, seen: RelativePlan) -> Tensor | float:
        """Return the segment term of the scores (R, A, Q, K); 0 by default."""
        return 0.0

    def forward(
        self, x: Tensor, shared: RelativePlan | CachedRelativePlan, state: Tensor | LayerCache | None = None
    ) -> Tensor:
        """Forward pass: return (T, H), or (T + R P, H) for the tokens and, after them, the query stream.

        The state is the memory (R, B, H) of this layer's inputs, or its slice of the key-value cache.
        """
        if isinstance(shared, CachedRelativePlan):
            return self._cached(x, shared, cast("LayerCache", state))
        memory_RBH = cast("Tensor | None", state)
        rows, length = len(shared.mask), shared.packed.row_length
        cells_RLH = x[: rows * length].view(rows, length, -1)
        q_RAQD = by_rows(self.by_head(self.query(x)), rows, length).transpose(1, 2)
        k_RAKD, v_RAKD = (self._known(project, cells_RLH, memory_RBH) for project in (self.key, self.value))
        scores = (q_RAQD + self.content_bias[:, None]) @ k_RAKD.transpose(-1, -2)
        scores = scores + self._by_distance(q_RAQD + self.position_bias[:, None], shared)
        scores = scores + self.segment_scores(q_RAQD, shared)
        out_RQAD = mix(scores * self.head_size**-0.5, v_RAKD, shared)
        cells, second = torch.split(out_RQAD, [length, out_RQAD.shape[1] - length], dim=1)
        return self.out(torch.cat([cells.flatten(0, 1), second.flatten(0, 1)]).flatten(1))  # type: ignore[no-any-return]

    def _cached(self, x: Tensor, plan: CachedRelativePlan, state: LayerCache) -> Tensor:
        """Return (T, H) for new tokens, whose keys and values are written to the cache."""
        q_TAD, k_TAD, v_TAD = (self.by_head(project(x)) for project in (self.query, self.key, self.value))
        state.write(k_TAD, v_TAD, plan.written)
        if state.by_distance is None or len(state.by_distance) <= plan.longest:
            down = torch.arange(plan.longest, -1, -1, device=x.device)
            state.by_distance = self.by_head(self.relative(self._encoded(down)))
        found = attend_relative(q_TAD + self.content_bias, q_TAD + self.position_bias, state, plan)
        return self.out(found.flatten(1))  # type: ignore[no-any-return]

    def _known(self, project: nn.Linear, cells_RLH: Tensor, memory_RBH: Tensor | None) -> Tensor:
        """Return keys or values (R, A, K, D) of the memory and of the tokens."""
        known = project(cells_RLH)
        if memory_RBH is not None:  # projected apart from the tokens, as it needs no gradient
            known = torch.cat([project(memory_RBH.to(cells_RLH.dtype)), known], 1)
        return self.by_head(known).transpose(1, 2)

    def _by_distance(self, q_RAQD: Tensor, seen: RelativePlan) -> Tensor:
        """Return the relative-position term q_i · W_r r(i - j) of the scores (R, A, Q, K)."""
        r_2AXD = self.by_head(self.relative(seen.distances)).transpose(1, 2)
        if backward(seen.packed) is None:
            scores_RAQX = torch.einsum("raqd,axd->raqx", q_RAQD, r_2AXD[0])
        else:
            scores_RAQX = q_RAQD @ r_2AXD[backward(seen.packed)].transpose(-1, -2)
        length, keys = seen.packed.row_length, seen.mask.shape[-1]
        cells, second = torch.split(scores_RAQX, [length, scores_RAQX.shape[2] - length], dim=2)
        shifted = shift(cells, keys)
        if seen.packed.query is None:
            return shifted
        place_RP = seen.packed.query % length
        entry_RPK = (length - place_RP)[:, :, None] + torch.arange(keys, device=place_RP.device)
        last = scores_RAQX.shape[-1] - 1
        index = entry_RPK.clamp(max=last)[:, None].expand(-1, scores_RAQX.shape[1], -1, -1)
        return torch.cat([shifted, second.gather(-1, index)], dim=2)

    def _distances(self, packed: Packed, memory: int) -> Tensor:
        """Return the encodings of the distances from K down, and of their negatives if any row runs backward."""
        first, number = memory + packed.row_length, num_relative_positions(packed.row_length, memory, self.choice.mask)
        distance = torch.arange(first, first - number, -1, device=packed.ids.device)
        ways = [distance] if backward(packed) is None else [distance, -distance]
        return torch.stack([self._encoded(way) for way in ways])

    def _encoded(self, distance: Tensor) -> Tensor:
        """Return the encodings (X, H) of distances (X,)."""
        if self.choice.clamp_len is not None:
            distance = distance.clamp(-self.choice.clamp_len, self.choice.clamp_len)
        return encoded(distance.to(self.content_bias.dtype), self.hidden)


def by_rows(x_TAD: Tensor, rows: int, length: int) -> Tensor:
    """Reshape to rows (R, Q, A, D): each row's tokens and, after them, its query-stream states."""
    cells, second = torch.split(x_TAD, [rows * length, len(x_TAD) - rows * length])
    return torch.cat([torch.unflatten(part, 0, (rows, -1)) for part in (cells, second)], dim=1)


def mix(scores: Tensor, v_RAKD: Tensor, seen: RelativePlan) -> Tensor:
    """Return softmax(scores) v (R, Q, A, D), the softmax in float32 at least; 0 for queries that attend to no key."""
    wide = torch.promote_types(torch.float32, scores.dtype)
    chances = scores.to(wide).masked_fill(~seen.mask, torch.finfo(wide).min).softmax(-1).to(v_RAKD.dtype)
    out_RQAD = (F.dropout(chances, seen.dropout) @ v_RAKD).transpose(1, 2)
    return out_RQAD if seen.blind is None else out_RQAD.masked_fill(seen.blind, 0.0)


def attention_mask(packed: Packed, visibility: AttentionMask, remembered: Tensor | None) -> Tensor:
    """Return the attention mask (R, Q, K) bool, over the memory and the tokens of a row.

    Tokens of a sequence attend to each other by the rule and the order; only a row's first sequence attends to the
    memory. A token attends to itself; a query-stream state only to what precedes its token in the order.
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
    """Return (R, B) bool: true for remembered positions of the text that continues in the row."""
    assert packed.flow is not None, "only batches of streams are remembered"
    return memory["remembered"] & packed.flow.continues[:, None]


def backward(packed: Packed) -> Tensor | None:
    """Return (R,) int64, 1 for rows that run backward and 0 for others; None: no row runs backward."""
    flow = packed.flow
    return None if flow is None or flow.backward is None else flow.backward.long()


def num_relative_positions(length: int, memory: int, visibility: AttentionMask) -> int:
    """Return X, the number of relative positions: from length + memory down to 0 (causal) or to 1 - length."""
    return length + memory + (1 if visibility.causal else length)

"""Attention to a few mixtures of a sequence rather than to all of its tokens (Wang et al. 2020, Linformer).

Sequences of all lengths are computed at once and in static shapes, by stretches of places, each with as many sequences
as can reach it at all. Of the sequences that share a row only one can be longer than half of it, and so on. So all
stretches together hold few more cells than the rows: as many where each row is one sequence, and at most 2 + log2 S
times as many where it may hold S.

Legend: T cells, R rows, L row length, N sequences, M sequences that reach a stretch, C places of it, k rank, n longest
sequence, A heads, D numbers a head, H = A D hidden size, G projections side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.model.attention import Attention, AttentionLayer
from genus.model.cost import ComponentCost, linear_cost
from genus.model.initialization import Initialization, Normal
from genus.part import Count, Fraction

if TYPE_CHECKING:
    from genus.batch import Packed
    from genus.model.attention.plan import Context


class LinformerAttention(Attention):
    """concat_a softmax(q_a (E_a k_a)ᵀ / sqrt(D)) F_a v_a, projected, with E and F of k x n numbers (equation 7).

    Of a sequence of l tokens the first l columns of E and F are taken. A bias of keys and values is added to what E and
    F make of them, as in the released code, so that no number of it hangs on the length.
    """

    heads: Count
    rank: Count
    """k."""
    length: Count = 512
    """n."""
    sharing: Literal["none", "heads", "key-value"] = "heads"
    """An E and an F for each head, one of each for all heads, or one matrix that is both (section 4)."""
    bias: bool = True
    dropout: Fraction = 0.1
    """On the attention probabilities, in training."""

    @property
    def in_words(self) -> str:
        """Its rank, and who shares a projection."""
        shared = {"none": "no sharing", "heads": "shared by heads", "key-value": "shared by heads, keys and values"}
        return f"low-rank (k = {self.rank} of n = {self.length}, {shared[self.sharing]}), {self.heads} heads"

    @property
    def max_length(self) -> int:
        """Columns of a projection."""
        return self.length

    @property
    def projections(self) -> int:
        """How many projections a layer has."""
        return {"none": 2 * self.heads, "heads": 2, "key-value": 1}[self.sharing]

    def check(self, hidden: int) -> None:
        """Refuse heads that do not divide the hidden size."""
        if self.heads < 1 or hidden % self.heads:
            raise ValueError(f"{self.heads} attention heads do not divide a hidden size of {hidden}")

    def build(self, hidden: int) -> LinformerAttentionLayer:
        """Return the layer."""
        return LinformerAttentionLayer(self, hidden)

    def projecting(self) -> ComponentCost:
        """Return the projections of a layer."""
        return ComponentCost(self.projections * self.rank * self.length)

    def cost(self, hidden: int, length: int) -> ComponentCost:
        """Return the maps and projections, and products of each token with k mixtures: two to make them, two to use."""
        products = ComponentCost(
            flops=8.0 * self.rank * hidden, activations=3 * hidden + 2 * hidden * self.rank / length
        )
        maps = linear_cost(hidden, 3 * hidden, self.bias) + linear_cost(hidden, hidden, self.bias)
        return maps + products + self.projecting()


@dataclass(frozen=True, slots=True)
class Strip:
    """Places of the longest sequences, the longest first."""

    first: int
    """The first place."""
    cells: Tensor
    """(M, C) int64, where in the batch each sequence has its place; 0 where it has ended."""
    ended: Tensor
    """(M, C, 1) bool."""

    def of(self, x: Tensor) -> Tensor:
        """Return (M, C, H) what stands there out of (T, H); where a sequence has ended, whatever stands in cell 0."""
        return x.index_select(0, self.cells.flatten()).view(*self.cells.shape, -1)


@dataclass(frozen=True, slots=True)
class StripLayout:
    """How the sequences of a batch lie, which all layers share."""

    stretches: tuple[Strip, ...]
    found: Tensor
    """(T,) int64, where each cell stands among the places of all stretches; for padding, the one past the last."""
    dropout: float


class LinformerAttentionLayer(AttentionLayer):
    """The module of low-rank attention.

    The biases of keys and values are parameters of the layer, as they are added to the mixtures, not to the tokens.
    """

    choice: LinformerAttention

    def __init__(self, choice: LinformerAttention, hidden: int) -> None:
        super().__init__()
        self.choice, self.head_size = choice, hidden // choice.heads
        self.query = nn.Linear(hidden, hidden, bias=choice.bias)
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.value = nn.Linear(hidden, hidden, bias=False)
        self.key_bias = nn.Parameter(torch.zeros(hidden)) if choice.bias else None
        self.value_bias = nn.Parameter(torch.zeros(hidden)) if choice.bias else None
        matrices = choice.heads if choice.sharing == "none" else 1
        self.key_projection = LengthProjection(matrices, choice.rank, choice.length)
        self.value_projection = (
            None if choice.sharing == "key-value" else LengthProjection(matrices, choice.rank, choice.length)
        )
        self.out = nn.Linear(hidden, hidden, bias=choice.bias)

    def plan(self, context: Context) -> StripLayout:
        """Return where sequences lie."""
        return layout_strips(context.packed, self.choice.dropout if context.training else 0.0)

    def forward(self, x: Tensor, shared: StripLayout, state: None = None) -> Tensor:
        """Return (T, H)."""
        of_values = self.key_projection if self.value_projection is None else self.value_projection
        k_NkH, v_NkH = self.key_projection(self.key(x), shared), of_values(self.value(x), shared)
        if self.key_bias is not None and self.value_bias is not None:
            k_NkH, v_NkH = k_NkH + self.key_bias, v_NkH + self.value_bias
        q_TH, k_NAkD, v_NAkD = self.query(x), *(self.by_head(part).transpose(1, 2) for part in (k_NkH, v_NkH))
        parts = []
        for stretch in shared.stretches:
            q_MACD, number = self.by_head(stretch.of(q_TH)).transpose(1, 2), len(stretch.cells)
            out = F.scaled_dot_product_attention(q_MACD, k_NAkD[:number], v_NAkD[:number], dropout_p=shared.dropout)
            parts.append(out.transpose(1, 2).flatten(2).flatten(0, 1))
        parts.append(torch.zeros_like(parts[0][:1]))
        return self.out(torch.cat(parts).index_select(0, shared.found))  # type: ignore[no-any-return]


class LengthProjection(nn.Module):
    """The projection E (or F) of the length n of a sequence to k: one matrix for all heads, or one for each head."""

    def __init__(self, matrices: int, rank: int, length: int) -> None:
        super().__init__()
        self.rank = rank
        self.weight = nn.Parameter(torch.empty(matrices * rank, length))
        self.init_weights(Normal())

    def init_weights(self, initialization: Initialization) -> None:
        """Draw the matrices."""
        initialization.draw(self.weight, "hidden")

    def forward(self, x: Tensor, lying: StripLayout) -> Tensor:
        """Return (N, k, H) for (T, H): the first columns of each matrix, as many as a sequence has tokens, times it."""
        weight_GkL = torch.unflatten(self.weight, 0, (-1, self.rank))
        total: Tensor | None = None
        for stretch in lying.stretches:
            places = slice(stretch.first, stretch.first + stretch.cells.shape[1])
            real_MCH = stretch.of(x).masked_fill(stretch.ended, 0.0)
            x_MCGH = torch.unflatten(real_MCH, -1, (len(weight_GkL), -1))
            part = torch.einsum("gkc,mcgh->mkgh", weight_GkL[:, :, places], x_MCGH).flatten(2)
            # the first stretch is that of all sequences
            total = part if total is None else total + F.pad(part, (0, 0, 0, 0, 0, len(total) - len(part)))
        assert total is not None
        return total


def layout_strips(packed: Packed, dropout: float) -> StripLayout:
    """Return how the sequences of a batch lie; shapes hang on the batch's, and nothing waits for the device."""
    device, cells, length = packed.ids.device, packed.ids.numel(), packed.row_length
    start = packed.offsets[:-1].long()
    size = torch.zeros(len(start) + 1, dtype=torch.long, device=device)
    size = size.index_add(0, packed.sequence.long() + 1, torch.ones_like(size[:1]).expand(cells))[1:]  # padding: 0
    size, order = size.sort(descending=True, stable=True)
    start = start[order]
    stretches, base, place = [], 0, torch.arange(length, device=device)
    at = torch.zeros(len(start), length, dtype=torch.long, device=device)
    for first, end, number in strip_bounds(max(1, len(start) - packed.rows), packed.rows, length):
        within = place[first:end] >= size[:number, None]
        cell = (start[:number, None] + place[first:end]).masked_fill(within, 0)
        stretches.append(Strip(first, cell, within[:, :, None]))
        at[:number, first:end] = base + torch.arange(cell.numel(), device=device).view(cell.shape)
        base += cell.numel()
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=device))
    entry = packed.entries()
    within = torch.arange(cells, device=device) - packed.offsets[:-1].long()[entry]
    found = at[rank[entry], within].masked_fill(packed.sequence < 0, base)
    return StripLayout(tuple(stretches), found, dropout)


def strip_bounds(sequences: int, rows: int, length: int) -> list[tuple[int, int, int]]:
    """Return (first place, end, how many sequences can reach it), which falls to half or less from each to the next.

    In a row of L cells at most L // (p + 1) sequences reach place p.
    """
    able = [min(sequences, rows * (length // (place + 1))) for place in range(length)]
    found, first = [], 0
    for place in range(1, length + 1):
        if place == length or 2 * able[place] <= able[first]:
            found.append((first, place, able[first]))
            first = place
    return found

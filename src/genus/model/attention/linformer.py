"""Linformer's low-rank attention: keys and values are projected along the sequence to length k (Wang et al. 2020).

Packed sequences of all lengths are computed together, in static shapes, by strips: ranges of positions, each with as
many sequences as can be long enough for it. Of the sequences of a row only one can be longer than half of it, and so
on. So all strips together have few more token positions than the rows: as many where each row is one sequence, and at
most 2 + log2 s times as many where a row may hold s.

Formulas have the letters of the paper: the matrices E and F of shape (k, n), the rank k and the maximum length n. In
shapes the k projected positions are keys, K = k, and H = A D.

Legend: b tokens of a chunk, of a block or of a strip.
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
    """Low-rank attention: concat_a(softmax(q_a (E_a k_a)ᵀ / sqrt(D)) F_a v_a) W_out, with E and F of shape (k, n).

    A sequence of l tokens uses the first l columns of E and F. The bias of keys and values is added after E and F, as
    in the released code, so that it does not depend on the length.

    Source: Wang et al. 2020, equation 7.
    """

    heads: Count
    rank: Count
    """k, the projected length."""
    length: Count = 512
    """n, the maximum sequence length in tokens."""
    sharing: Literal["none", "heads", "key-value"] = "heads"
    """Parameter sharing: E and F per head (`none`), for all heads, or one matrix for both E and F (section 4)."""
    bias: bool = True
    dropout: Fraction = 0.1
    """Dropout probability of the attention probabilities, in training."""

    @property
    def in_words(self) -> str:
        """The rank, the sharing of projections, and the number of heads."""
        shared = {"none": "no sharing", "heads": "shared by heads", "key-value": "shared by heads, keys and values"}
        return f"low-rank (k = {self.rank} of n = {self.length}, {shared[self.sharing]}), {self.heads} heads"

    @property
    def max_length(self) -> int:
        """n, the number of columns of a projection."""
        return self.length

    @property
    def projections(self) -> int:
        """The number of length projections of a layer."""
        return {"none": 2 * self.heads, "heads": 2, "key-value": 1}[self.sharing]

    def check(self, hidden: int) -> None:
        """Check that the heads divide the hidden size (ValueError)."""
        if self.heads < 1 or hidden % self.heads:
            raise ValueError(f"{self.heads} attention heads do not divide a hidden size of {hidden}")

    def build(self, hidden: int) -> LinformerAttentionLayer:
        """Return the module for hidden states of size H = `hidden`."""
        return LinformerAttentionLayer(self, hidden)

    def projecting(self) -> ComponentCost:
        """Return the cost of a layer's length projections E and F: their parameters."""
        return ComponentCost(self.projections * self.rank * self.length)

    def cost(self, hidden: int, length: int) -> ComponentCost:
        """Return the cost of linear layers, E and F, and four products with k positions: E k, F v, scores, outputs."""
        products = ComponentCost(
            flops=8.0 * self.rank * hidden, activations=3 * hidden + 2 * hidden * self.rank / length
        )
        maps = linear_cost(hidden, 3 * hidden, self.bias) + linear_cost(hidden, hidden, self.bias)
        return maps + products + self.projecting()


@dataclass(frozen=True, slots=True)
class Strip:
    """Gather index of a range of positions of the N longest sequences, the longest first."""

    first: int
    """The first position of the range."""
    cells: Tensor
    """(N, b) int64 index on the token axis of each sequence's position; 0 beyond its end."""
    ended: Tensor
    """(N, b, 1) bool: true beyond the end of the sequence."""

    def of(self, x: Tensor) -> Tensor:
        """Gather (N, b, H) from (T, H); beyond the end of a sequence the result is that of token position 0."""
        return x.index_select(0, self.cells.flatten()).view(*self.cells.shape, -1)


@dataclass(frozen=True, slots=True)
class StripLayout:
    """The strips of a batch, which all layers share."""

    stretches: tuple[Strip, ...]
    found: Tensor
    """(T,) int64 gather index from the concatenated strips to tokens; one past the last for padding."""
    dropout: float


class LinformerAttentionLayer(AttentionLayer):
    """The module of low-rank attention.

    The biases of keys and values are parameters of this layer, as they are added after the length projection.
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
        """Return the strips of the batch's sequences."""
        return layout_strips(context.packed, self.choice.dropout if context.training else 0.0)

    def forward(self, x: Tensor, shared: StripLayout, state: None = None) -> Tensor:
        """Forward pass: return (T, H), 0 for padding before the output projection."""
        of_values = self.key_projection if self.value_projection is None else self.value_projection
        k_NKH, v_NKH = self.key_projection(self.key(x), shared), of_values(self.value(x), shared)
        if self.key_bias is not None and self.value_bias is not None:
            k_NKH, v_NKH = k_NKH + self.key_bias, v_NKH + self.value_bias
        q_TH, k_NAKD, v_NAKD = self.query(x), *(self.by_head(part).transpose(1, 2) for part in (k_NKH, v_NKH))
        parts = []
        for stretch in shared.stretches:
            q_NAbD, number = self.by_head(stretch.of(q_TH)).transpose(1, 2), len(stretch.cells)
            out = F.scaled_dot_product_attention(q_NAbD, k_NAKD[:number], v_NAKD[:number], dropout_p=shared.dropout)
            parts.append(out.transpose(1, 2).flatten(2).flatten(0, 1))
        parts.append(torch.zeros_like(parts[0][:1]))
        return self.out(torch.cat(parts).index_select(0, shared.found))  # type: ignore[no-any-return]


class LengthProjection(nn.Module):
    """The length projection E (or F), from n positions to k: one matrix for all heads, or one per head."""

    def __init__(self, matrices: int, rank: int, length: int) -> None:
        super().__init__()
        self.rank = rank
        self.weight = nn.Parameter(torch.empty(matrices * rank, length))
        self.init_weights(Normal())

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize the matrices as hidden weights."""
        initialization.draw(self.weight, "hidden")

    def forward(self, x: Tensor, lying: StripLayout) -> Tensor:
        """Project (T, H) to (N, K, H): each sequence of l tokens is multiplied by the first l columns of a matrix."""
        matrices = torch.unflatten(self.weight, 0, (-1, self.rank))  # (A, k, n), with A = 1 and D = H for one matrix
        total: Tensor | None = None
        for stretch in lying.stretches:
            places = slice(stretch.first, stretch.first + stretch.cells.shape[1])
            real_NbH = stretch.of(x).masked_fill(stretch.ended, 0.0)
            x_NbAD = torch.unflatten(real_NbH, -1, (len(matrices), -1))
            part = torch.einsum("akb,nbad->nkad", matrices[:, :, places], x_NbAD).flatten(2)
            # the first strip holds all sequences
            total = part if total is None else total + F.pad(part, (0, 0, 0, 0, 0, len(total) - len(part)))
        assert total is not None
        return total


def layout_strips(packed: Packed, dropout: float) -> StripLayout:
    """Return the strips of a batch, of shapes that depend on the batch's only, without device synchronization."""
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
    """Return strips as (first position, end, N); from each strip to the next, N falls to half or less.

    In a row of L tokens at most L // (p + 1) sequences reach position p.
    """
    able = [min(sequences, rows * (length // (place + 1))) for place in range(length)]
    found, first = [], 0
    for place in range(1, length + 1):
        if place == length or 2 * able[place] <= able[first]:
            found.append((first, place, able[first]))
            first = place
    return found

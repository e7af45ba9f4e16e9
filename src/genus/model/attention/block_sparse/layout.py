"""Block layout for block-sparse attention: sequences cut into blocks, and the blocks that each block attends to.

A packed stream becomes one axis of blocks: every sequence has whole blocks of its own, the last one padded; padding of
rows has none. There are as many blocks as the worst lengths need, so that shapes depend only on T, J and the choices.
Blocks that no sequence needs are empty, at the end: they neither attend nor are attended to.
Here S = C b.

Legend: b tokens of a chunk, of a block or of a strip; C chunks or blocks, of a batch or of a part of it; J entries of a
packed batch, those of padding included; S slots for tokens in all chunks or blocks; U global blocks of a sequence; W
chunks or blocks of a window; Z random blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from genus.batch import Packed

MASK = 0xFFFF_FFFF
MULTIPLIER = 0x045D_9F3B
"""Multiplier of a 32-bit hash, whose products fit 64-bit integers without overflow."""


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """Gather and scatter indices between the tokens of a batch and blocks, and the global blocks."""

    block: int
    """b, tokens per block."""
    cell: Tensor
    """(T,) int64: the slot of each token; 0 for padding of rows."""
    padding: Tensor
    """(T,) bool: true for padding of rows."""
    token: Tensor
    """(S,) int64: the token at each slot; at padding, any token of the same sequence."""
    real: Tensor
    """(C, b) bool: true for slots with a token, false for padding."""
    start: Tensor
    """(C,) int64: the first block of each block's sequence."""
    place: Tensor
    """(C,) int64: the index of each block in its sequence."""
    count: Tensor
    """(C,) int64: the number of blocks of each block's sequence; 0 for empty blocks."""
    lead: int
    """Number of global blocks at the beginning of a sequence."""
    tail: int
    """Number of global blocks at the end of a sequence."""

    @property
    def end(self) -> Tensor:
        """(C,) int64: the index in its sequence of the first of the global blocks at the sequence's end."""
        return torch.maximum(self.count - self.tail, self.count.clamp(max=self.lead))

    def is_global(self) -> Tensor:
        """Return (C,) bool: true for global blocks, which attend to their whole sequence, and for empty blocks."""
        return (self.place < self.lead) | (self.place >= self.end)

    def global_blocks(self) -> tuple[Tensor, Tensor]:
        """Return (C, U) the global blocks of each block's sequence, and (C, U) bool, false for padding."""
        ahead = torch.arange(self.lead, device=self.place.device).expand(len(self.place), -1)
        behind = self.count[:, None] - 1 - torch.arange(self.tail, device=self.place.device)
        there = torch.cat([ahead < self.count[:, None], behind >= self.end[:, None]], 1)
        return self.blocks(torch.cat([ahead, behind], 1), there), there

    def window(self, width: int) -> tuple[Tensor, Tensor]:
        """Return (C, W) the window around each block, without global blocks, and (C, W) bool, false for padding."""
        around = self.place[:, None] + torch.arange(width, device=self.place.device) - width // 2
        there = (around >= self.lead) & (around < self.end[:, None])
        return self.blocks(around, there), there

    def blocks(self, number: Tensor, there: Tensor) -> Tensor:
        """Return blocks from their indices in the sequence of each of the C; the sequence's first if not `there`."""
        start = self.start.view(-1, *[1] * (number.dim() - 1))
        return torch.where(there, start + number, start)


def lay_out(packed: Packed, block: int, lead: int, tail: int) -> BlockLayout:
    """Cut sequences into blocks of `block` tokens; the first `lead` tokens have blocks of their own, padded."""
    device, tokens = packed.ids.device, packed.ids.numel()
    starts_J, lengths_J = packed.offsets[:-1].long(), packed.lengths_of_entries().long()
    lead_blocks = -(-lead // block)
    gap = lead_blocks * block - lead
    counts_J = torch.where(lengths_J > lead, lengths_J + gap, lengths_J).add(block - 1) // block
    ends_J = counts_J.cumsum(0)
    number = (tokens + (len(starts_J) - packed.rows) * (gap + block - 1)) // block

    order_T, sequence_T, padding_T = torch.arange(tokens, device=device), packed.entries(), packed.sequence < 0
    place_T = order_T - starts_J[sequence_T]
    cell_T = (ends_J - counts_J)[sequence_T] * block + torch.where(place_T < lead, place_T, place_T + gap)
    written_T = cell_T.masked_fill(padding_T, number * block)  # a slot that is cut off again

    order_C = torch.arange(number, device=device)
    sequence_C = torch.searchsorted(ends_J, order_C, right=True).clamp(max=len(starts_J) - 1)
    start_C = (ends_J - counts_J)[sequence_C]
    first_S = starts_J[sequence_C].clamp(max=tokens - 1).repeat_interleave(block)
    token_S = torch.cat([first_S, first_S.new_zeros(1)]).index_copy(0, written_T, order_T)[:-1]
    real_S = torch.zeros(number * block + 1, dtype=torch.bool, device=device).index_fill(0, written_T, True)[:-1]
    return BlockLayout(
        block=block,
        cell=cell_T.masked_fill(padding_T, 0),
        padding=padding_T,
        token=token_S,
        real=real_S.view(number, block),
        start=start_C,
        place=order_C - start_C,
        count=torch.where(order_C < ends_J[-1], counts_J[sequence_C], 0),
        lead=lead_blocks,
        tail=tail,
    )


@dataclass(frozen=True, slots=True)
class BlockRows:
    """The block-sparse attention mask between tokens, by rows, for dense attention."""

    block: Tensor
    """(R, L) int64: the block of each token."""
    place: Tensor
    """(R, L) int64: the index of each token's block in its sequence."""
    same: Tensor
    """(R, L, L) bool, true for pairs of tokens of the same sequence."""
    always: Tensor
    """(R, L, L) bool, true for pairs that attend whichever random blocks are drawn: window and global blocks."""
    most: int
    """The largest number of blocks of a sequence."""

    def allowed(self, drawn_CAZ: Tensor) -> Tensor:
        """Return the attention mask (R, A, L, L) bool, given random blocks as indices in their sequence (-1: none)."""
        if not drawn_CAZ.shape[2]:
            return self.always[:, None]
        hit = torch.zeros(*drawn_CAZ.shape[:2], self.most + 1, dtype=torch.bool, device=drawn_CAZ.device)
        hit.scatter_(2, torch.where(drawn_CAZ < 0, self.most, drawn_CAZ), True)
        of_token = hit[self.block].transpose(1, 2)
        key_RALL = self.place[:, None, None].expand(*of_token.shape[:3], -1)
        return self.always[:, None] | (of_token.gather(3, key_RALL) & self.same[:, None])


def in_rows(layout: BlockLayout, length: int, window: int) -> BlockRows:
    """Return the attention mask in rows of `length` tokens, from window and global blocks."""
    block_RL = (layout.cell // layout.block).view(-1, length)
    place_RL, start_RL, global_RL = (x[block_RL] for x in (layout.place, layout.start, layout.is_global()))
    padding_RL = layout.padding.view(-1, length)
    same = (start_RL[:, :, None] == start_RL[:, None]) & (padding_RL[:, :, None] == padding_RL[:, None])
    near = (place_RL[:, :, None] - place_RL[:, None]).abs() <= window // 2
    most = layout.lead + -(-length // layout.block)
    return BlockRows(block_RL, place_RL, same, same & (near | global_RL[:, :, None] | global_RL[:, None]), most)


def draw_blocks(layout: BlockLayout, window: int, number: int, focus: int | None, seed: int, heads: int) -> Tensor:
    """Draw random blocks without replacement: return (C, A, Z) indices in the sequence, -1 where none is left.

    A block draws among those of its sequence that are neither global nor in its window, and come before block `focus`.
    The draw is a hash of (seed, head, index of the block, index of the draw): it does not depend on other sequences.
    """
    first = torch.full_like(layout.place, layout.lead)
    end = layout.end if focus is None else layout.end.clamp(max=focus)
    below = torch.minimum(layout.place - window // 2, end).maximum(first) - first
    above = torch.minimum(layout.place + window // 2 + 1, end).maximum(first)
    choices = (below + (end - above).clamp(min=0))[:, None]
    head_A = _hash(_hash(torch.tensor(seed & MASK, device=first.device)) ^ torch.arange(heads, device=first.device))
    block_CA = _hash(head_A ^ layout.place[:, None])
    drawn: list[Tensor] = []
    for turn in range(number):
        rank = _hash(block_CA + turn) * (choices - turn).clamp(min=0) >> 32
        for earlier in torch.stack(drawn, -1).sort(-1).values.unbind(-1) if drawn else ():
            rank = rank + (rank >= earlier)
        drawn.append(rank)
    rank_CAZ = torch.stack(drawn, -1) if drawn else block_CA.new_zeros(*block_CA.shape, 0)
    shift_CAZ = torch.where(rank_CAZ < below[:, None, None], first[:, None, None], (above - below)[:, None, None])
    left = choices[..., None] > torch.arange(number, device=first.device)
    return torch.where(left, rank_CAZ + shift_CAZ, -1)


def _hash(x: Tensor) -> Tensor:
    """Return a hash of 32-bit integers, stored in 64 bits."""
    for _ in range(2):
        x = ((x ^ x >> 16) * MULTIPLIER) & MASK
    return x ^ x >> 16

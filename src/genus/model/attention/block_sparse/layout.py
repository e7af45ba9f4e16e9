"""Block layout for block-sparse attention: sequences cut into blocks, and the blocks that each block attends to.

A packed stream becomes one axis of blocks: every sequence has whole blocks of its own, the last one padded; padding of
rows has none. There are as many blocks as the worst lengths need, so that shapes depend only on T, N and the choices.
Blocks that no sequence needs are empty, at the end: they neither attend nor are attended to.
Legend: b positions of a block, C = X b positions, E global blocks of a sequence, W blocks of the window, Z random
blocks, P the largest number of blocks of a sequence in a row; else docs/names.md.
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
    """(T,) int64: the position of each token on the axis of blocks; 0 for padding of rows."""
    padding: Tensor
    """(T,) bool: true for padding of rows."""
    token: Tensor
    """(C,) int64: the token at each position; at padding, any token of the same sequence."""
    real: Tensor
    """(X, b) bool: true for positions with a token, false for padding."""
    start: Tensor
    """(X,) int64: the first block of each block's sequence."""
    place: Tensor
    """(X,) int64: the index of each block in its sequence."""
    count: Tensor
    """(X,) int64: the number of blocks of each block's sequence; 0 for empty blocks."""
    lead: int
    """Number of global blocks at the beginning of a sequence."""
    tail: int
    """Number of global blocks at the end of a sequence."""

    @property
    def end(self) -> Tensor:
        """(X,) int64: the index in its sequence of the first of the global blocks at the sequence's end."""
        return torch.maximum(self.count - self.tail, self.count.clamp(max=self.lead))

    def is_global(self) -> Tensor:
        """Return (X,) bool: true for global blocks, which attend to their whole sequence, and for empty blocks."""
        return (self.place < self.lead) | (self.place >= self.end)

    def global_blocks(self) -> tuple[Tensor, Tensor]:
        """Return (X, E) the global blocks of each block's sequence, and (X, E) bool, false for padding."""
        ahead = torch.arange(self.lead, device=self.place.device).expand(len(self.place), -1)
        behind = self.count[:, None] - 1 - torch.arange(self.tail, device=self.place.device)
        there = torch.cat([ahead < self.count[:, None], behind >= self.end[:, None]], 1)
        return self.blocks(torch.cat([ahead, behind], 1), there), there

    def window(self, width: int) -> tuple[Tensor, Tensor]:
        """Return (X, W) the window around each block, without global blocks, and (X, W) bool, false for padding."""
        around = self.place[:, None] + torch.arange(width, device=self.place.device) - width // 2
        there = (around >= self.lead) & (around < self.end[:, None])
        return self.blocks(around, there), there

    def blocks(self, number: Tensor, there: Tensor) -> Tensor:
        """Return blocks from their indices in the sequence of each of the X; the sequence's first if not `there`."""
        start = self.start.view(-1, *[1] * (number.dim() - 1))
        return torch.where(there, start + number, start)


def lay_out(packed: Packed, block: int, lead: int, tail: int) -> BlockLayout:
    """Cut sequences into blocks of `block` tokens; the first `lead` tokens have blocks of their own, padded."""
    device, tokens = packed.ids.device, packed.ids.numel()
    starts_N, lengths_N = packed.offsets[:-1].long(), packed.lengths_of_entries().long()
    lead_blocks = -(-lead // block)
    gap = lead_blocks * block - lead
    counts_N = torch.where(lengths_N > lead, lengths_N + gap, lengths_N).add(block - 1) // block
    ends_N = counts_N.cumsum(0)
    number = (tokens + (len(starts_N) - packed.rows) * (gap + block - 1)) // block

    order_T, sequence_T, padding_T = torch.arange(tokens, device=device), packed.entries(), packed.sequence < 0
    place_T = order_T - starts_N[sequence_T]
    cell_T = (ends_N - counts_N)[sequence_T] * block + torch.where(place_T < lead, place_T, place_T + gap)
    written_T = cell_T.masked_fill(padding_T, number * block)  # a position that is cut off again

    order_X = torch.arange(number, device=device)
    sequence_X = torch.searchsorted(ends_N, order_X, right=True).clamp(max=len(starts_N) - 1)
    start_X = (ends_N - counts_N)[sequence_X]
    first_C = starts_N[sequence_X].clamp(max=tokens - 1).repeat_interleave(block)
    token_C = torch.cat([first_C, first_C.new_zeros(1)]).index_copy(0, written_T, order_T)[:-1]
    real_C = torch.zeros(number * block + 1, dtype=torch.bool, device=device).index_fill(0, written_T, True)[:-1]
    return BlockLayout(
        block=block,
        cell=cell_T.masked_fill(padding_T, 0),
        padding=padding_T,
        token=token_C,
        real=real_C.view(number, block),
        start=start_X,
        place=order_X - start_X,
        count=torch.where(order_X < ends_N[-1], counts_N[sequence_X], 0),
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
    """P, the largest number of blocks of a sequence."""

    def allowed(self, drawn_XAZ: Tensor) -> Tensor:
        """Return the attention mask (R, A, L, L) bool, given random blocks as indices in their sequence (-1: none)."""
        if not drawn_XAZ.shape[2]:
            return self.always[:, None]
        hit_XAP = torch.zeros(*drawn_XAZ.shape[:2], self.most + 1, dtype=torch.bool, device=drawn_XAZ.device)
        hit_XAP.scatter_(2, torch.where(drawn_XAZ < 0, self.most, drawn_XAZ), True)
        hit_RALP = hit_XAP[self.block].transpose(1, 2)
        key_RALL = self.place[:, None, None].expand(*hit_RALP.shape[:3], -1)
        return self.always[:, None] | (hit_RALP.gather(3, key_RALL) & self.same[:, None])


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
    """Draw random blocks without replacement: return (X, A, Z) indices in the sequence, -1 where none is left.

    A block draws among those of its sequence that are neither global nor in its window, and come before block `focus`.
    The draw is a hash of (seed, head, index of the block, index of the draw): it does not depend on other sequences.
    """
    first = torch.full_like(layout.place, layout.lead)
    end = layout.end if focus is None else layout.end.clamp(max=focus)
    below = torch.minimum(layout.place - window // 2, end).maximum(first) - first
    above = torch.minimum(layout.place + window // 2 + 1, end).maximum(first)
    choices = (below + (end - above).clamp(min=0))[:, None]
    head_A = _hash(_hash(torch.tensor(seed & MASK, device=first.device)) ^ torch.arange(heads, device=first.device))
    block_XA = _hash(head_A ^ layout.place[:, None])
    drawn: list[Tensor] = []
    for turn in range(number):
        rank = _hash(block_XA + turn) * (choices - turn).clamp(min=0) >> 32
        for earlier in torch.stack(drawn, -1).sort(-1).values.unbind(-1) if drawn else ():
            rank = rank + (rank >= earlier)
        drawn.append(rank)
    rank_XAZ = torch.stack(drawn, -1) if drawn else block_XA.new_zeros(*block_XA.shape, 0)
    shift_XAZ = torch.where(rank_XAZ < below[:, None, None], first[:, None, None], (above - below)[:, None, None])
    left = choices[..., None] > torch.arange(number, device=first.device)
    return torch.where(left, rank_XAZ + shift_XAZ, -1)


def _hash(x: Tensor) -> Tensor:
    """Return a hash of 32-bit integers, stored in 64 bits."""
    for _ in range(2):
        x = ((x ^ x >> 16) * MULTIPLIER) & MASK
    return x ^ x >> 16

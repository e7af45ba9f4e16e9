"""Chunk layout: the gather and scatter indices of tokens in chunks, none of which crosses a sequence.

Here S = C b.

Legend: b tokens of a chunk, of a block or of a strip; C chunks or blocks, of a batch or of a part of it; I rounds of
hashing; J entries of a packed batch, those of padding included; S slots for tokens in all chunks or blocks; W chunks
or blocks of a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from genus.batch import Packed
    from genus.model.attention.chunked import ChunkedAttention


@dataclass(frozen=True, slots=True)
class ChunkIndex:
    """Gather and scatter indices for one chunk size; chunks are ordered by sequence, then by round."""

    gather_index: Tensor
    """(S,) the token in each slot: r T + p, the p-th of all tokens in the order of round r; I T in empty slots."""
    scatter_index: Tensor
    """(I, T) the slot of each token in each round."""
    invalid: Tensor
    """(I, T) bool: true for tokens without a slot in the round; a sequence of one chunk is in the first round only, as
    its tokens attend to each other anyway."""
    neighbors: Tensor
    """(C, W) the chunks that each chunk attends to, of the same sequence, over consecutive rounds, circular. The only
    chunk of a sequence has the last chunk of all, which is empty, as its neighbors."""


class ChunkLayout:
    """The plan of chunked attention for a batch: chunk indices by chunk size, computed at first use and shared."""

    def __init__(self, packed: Packed) -> None:
        self.number = packed.entries()
        self.lengths = packed.on_cpu().offsets.diff().long()
        self.place = torch.arange(len(self.number), device=self.number.device) - packed.offsets[:-1].long()[self.number]
        self.positions = packed.positions
        self._seats: dict[tuple[int, int, int, int], ChunkIndex] = {}

    def seats(self, choice: ChunkedAttention, rounds: int = 1) -> ChunkIndex:
        """Return the gather and scatter indices for the chunk size of `choice`."""
        key = (choice.chunk_length, choice.chunks_before, choice.chunks_after, rounds)
        if key not in self._seats:
            self._seats[key] = self._assign(*key)
        return self._seats[key]

    def _assign(self, chunk: int, before: int, after: int, rounds: int) -> ChunkIndex:
        """Compute the indices: of chunks on the CPU, as C depends on the lengths, and of tokens on the device."""
        number, device = self.number, self.number.device
        chunks_J = (self.lengths + chunk - 1) // chunk
        chunks_J = torch.cat([chunks_J, torch.ones_like(chunks_J[:1])])  # the last chunk is the empty one
        own_J = torch.where(chunks_J > 1, rounds * chunks_J, chunks_J)
        first_J = own_J.cumsum(0) - own_J
        sequence_C = torch.repeat_interleave(own_J)
        place_C = torch.arange(len(sequence_C)) - first_J[sequence_C]
        look_W = torch.arange(-before, after + 1)
        around_CW = first_J[sequence_C, None] + (place_C[:, None] + look_W) % own_J[sequence_C, None]
        alone_CW = (chunks_J[sequence_C, None] == 1) & (look_W != 0)
        neighbors_CW = around_CW.masked_fill(alone_CW, len(sequence_C) - 1)
        chunks_J, first_J, neighbors_CW = (x.to(device, non_blocking=True) for x in (chunks_J, first_J, neighbors_CW))
        round_I1 = torch.arange(rounds, device=device)[:, None]
        absent_IT = (chunks_J[number] == 1) & (round_I1 > 0)
        within_IT = (round_I1 * chunks_J[number]).masked_fill(absent_IT, 0)
        seat_IT = chunk * (first_J[number] + within_IT) + self.place
        slots = chunk * len(sequence_C)
        taker = torch.full((slots + 1,), seat_IT.numel(), device=device)  # tokens without a slot take the one too many
        taken_IT = seat_IT.masked_fill(absent_IT, slots)
        taker.scatter_(0, taken_IT.flatten(), torch.arange(seat_IT.numel(), device=device))
        return ChunkIndex(taker[:-1], seat_IT, absent_IT, neighbors_CW)


def with_neighbors(x_ASD: Tensor, seats: ChunkIndex) -> Tensor:
    """Gather (A, C, W b, D) from slots (A, S, D): for each chunk, the slots of the W chunks that it attends to."""
    return in_chunks(x_ASD, seats)[:, seats.neighbors].flatten(2, 3)


def in_chunks(x_ASD: Tensor, seats: ChunkIndex) -> Tensor:
    """Reshape slots (A, S, D) to chunks (A, C, b, D)."""
    return x_ASD.view(len(x_ASD), len(seats.neighbors), -1, x_ASD.shape[-1])


def padded(x: Tensor, value: int = 0) -> Tensor:
    """Append one entry of padding to (T, ...), which the gather index of empty slots refers to."""
    return torch.cat([x, torch.full_like(x[:1], value)])

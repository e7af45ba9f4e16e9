"""Bin packing of sequences into rows (packed sequences)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray


BLOCK = 8192
"""Examples per bin-packing problem: rows are filled within blocks of this size."""


@dataclass(frozen=True, slots=True)
class PackedRows:
    """The assignment of examples to rows: row r holds `examples[offsets[r] : offsets[r + 1]]`."""

    examples: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int64]:
        """Return the indices of the examples of a row."""
        return self.examples[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Iterate over the rows, each as example indices."""
        return (self[row] for row in range(len(self)))


def bin_pack(
    lengths: Mapping[str, NDArray[np.int64]],
    limits: Mapping[str, int],
    *,
    order: NDArray[np.int64] | None = None,
    max_sequences: int | None = None,
) -> PackedRows:
    """Bin packing by best-fit decreasing: the longest example first, each into the row where it leaves the least room.

    An example lies in the same row of every stream. With several streams, length and room are those of the stream that
    is fullest relative to its row length. Rows are filled within blocks of 8,192 examples, so the time is linear in the
    number of examples.

    Args:
        lengths: (E,) length of each example in tokens, by stream, at most the stream's limit.
        limits: row length by stream.
        order: (E,) example indices in the order in which blocks are formed (None: ascending).
        max_sequences: the largest number of examples in one row (None: as many as fit).

    Raises:
        ValueError: an example is longer than a row.
    """
    streams = list(lengths)
    length_ES = np.stack([lengths[stream] for stream in streams], axis=1)
    limit_S = np.array([limits[stream] for stream in streams])
    for stream, length, limit in zip(streams, length_ES.max(0, initial=0), limit_S, strict=True):
        if length > limit:
            raise ValueError(f"an example has {length} tokens of the stream {stream}, of which a row holds {limit}")
    order = np.arange(len(length_ES)) if order is None else order
    examples, sizes = [order[:0]], [order[:0]]
    for first in range(0, len(order), BLOCK):
        block = order[first : first + BLOCK]
        fullest = (length_ES[block] / limit_S).max(1)
        block = block[np.argsort(-fullest, kind="stable")]
        most = max_sequences or len(block)
        if len(streams) == 1:
            row = np.array(_best_fit(length_ES[block, 0].tolist(), int(limit_S[0]), most))
        else:
            row = _best_fit_of_streams(length_ES[block], limit_S, most)
        examples.append(block[np.argsort(row, kind="stable")])
        sizes.append(np.bincount(row))
    return PackedRows(np.concatenate(examples), np.concatenate([[0], np.cumsum(np.concatenate(sizes))]))


def sequences_per_row(lengths: Mapping[str, NDArray[np.int64]], limits: Mapping[str, int]) -> int:
    """Return the smallest limit on the sequences per row that needs at most 1 % more rows than no limit."""
    fewest = len(bin_pack(lengths, limits))
    limit = max(1, int(len(next(iter(lengths.values()))) / (1.01 * fewest)))
    while len(bin_pack(lengths, limits, max_sequences=limit)) > 1.01 * fewest:
        limit += 1
    return limit


def _best_fit(sizes: list[int], max_length: int, max_sequences: int) -> list[int]:
    """Return the row of every size, given in descending order: each goes where it leaves the least room.

    Rows with room are kept in one stack per amount of room; the non-empty stacks are a bit set in one integer.
    """
    stacks: list[list[int]] = [[] for _ in range(max_length + 1)]
    rooms = 0
    taken: list[int] = []
    placed = []
    for size in sizes:
        fitting = rooms >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            row = stacks[room].pop()
            if not stacks[room]:
                rooms ^= 1 << room
        else:
            room, row = max_length, len(taken)
            taken.append(0)
        taken[row] += 1
        placed.append(row)
        room -= size
        if room and taken[row] < max_sequences:
            stacks[room].append(row)
            rooms |= 1 << room
    return placed


def _best_fit_of_streams(length_ES: NDArray[np.int64], limit_S: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return the row (E,) of every example: of the rows with room in all streams, the one with the fullest stream.

    The time is proportional to examples x rows of the block.
    """
    room_RS = np.tile(limit_S, (len(length_ES), 1))
    taken_R = np.zeros(len(length_ES), dtype=np.int64)
    row_E = np.zeros(len(length_ES), dtype=np.int64)
    opened = 0
    for number, length_S in enumerate(length_ES):
        left_RS = room_RS[:opened] - length_S
        fits_R = (left_RS >= 0).all(1) & (taken_R[:opened] < most)
        if fits_R.any():
            spare_R = np.where(fits_R, (left_RS / limit_S).min(1), np.inf)
            row = int(spare_R.argmin())
        else:
            row, opened = opened, opened + 1
        room_RS[row] -= length_S
        taken_R[row] += 1
        row_E[number] = row
    return row_E

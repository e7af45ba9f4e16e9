"""Packing: which examples share a row, and rows of examples to a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from genus.batch import IGNORE, Batch, Flow, Packed, Targets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from genus.examples import Example
    from genus.examples import Sequence as Tokens

    Row = Sequence[Example]
    Pairs = list[tuple[NDArray[np.int64], NDArray[np.int64] | NDArray[np.float32]]]

BLOCK = 8192
"""Examples among which the companions of a row are sought."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Which examples lie in which row: row r holds `examples[offsets[r] : offsets[r + 1]]`."""

    examples: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int64]:
        """Return the numbers of the examples of a row."""
        return self.examples[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Return the rows in turn."""
        return (self[row] for row in range(len(self)))


def fill_rows(
    lengths: NDArray[np.int64],
    max_length: int,
    *,
    order: NDArray[np.int64] | None = None,
    max_sequences: int | None = None,
) -> Rows:
    """Share out examples among rows: the longest first, each where it leaves the least room (best fit decreasing).

    Companions are sought within blocks of 8,192 examples, so time grows with their number only.

    Args:
        lengths: (E,) tokens of each example, none over `max_length`.
        max_length: cells of a row.
        order: (E,) the examples in the order in which blocks are taken (None: as numbered).
        max_sequences: examples in one row at most (None: as many as fit).
    """
    order = np.arange(len(lengths)) if order is None else order
    examples, sizes = [order[:0]], [order[:0]]
    for first in range(0, len(order), BLOCK):
        block = order[first : first + BLOCK]
        block = block[np.argsort(-lengths[block], kind="stable")]
        row = np.array(_best_fit(lengths[block].tolist(), max_length, max_sequences or len(block)))
        examples.append(block[np.argsort(row, kind="stable")])
        sizes.append(np.bincount(row))
    return Rows(np.concatenate(examples), np.concatenate([[0], np.cumsum(np.concatenate(sizes))]))


def sequences_per_row(lengths: NDArray[np.int64], max_length: int) -> int:
    """Return the smallest limit on the sequences of a row that costs under 1 % more rows."""
    fewest = len(fill_rows(lengths, max_length))
    limit = max(1, int(len(lengths) / (1.01 * fewest)))
    while len(fill_rows(lengths, max_length, max_sequences=limit)) > 1.01 * fewest:
        limit += 1
    return limit


def pack(
    rows: Sequence[Row],
    max_length: int,
    pad: int,
    max_sequences: int | None = None,
    max_targets: dict[str, int] | None = None,
    *,
    streams: bool = True,
) -> Batch:
    """Lay examples out in rows, each filled up by a dead sequence of padding.

    Args:
        rows: the examples of each row; a row may be empty.
        max_length: cells of a row.
        pad: the id of padding.
        max_sequences: N, to which the offsets are filled up, dead sequences counted (None: as many as there are).
        max_targets: M by name, to which targets are filled up; others are left out (None: all, as many as there are).
        streams: whether rows go on from those of the batch before; where none ever does, nothing is remembered.

    Raises:
        ValueError: a row, the sequences or the targets are more than fit.
    """
    names = next((list(example.streams) for row in rows for example in row), ["tokens"])
    parts = {name: [[example.streams[name] for example in row] for row in rows] for name in names}
    laid = {name: _lay(part, max_length, pad, max_sequences, streams) for name, part in parts.items()}
    return Batch(laid, _targets(rows, max_length, max_targets))


def _lay(
    rows: Sequence[Sequence[Tokens]], max_length: int, pad: int, max_sequences: int | None, streams: bool
) -> Packed:
    """Lay one stream's sequences end to end."""
    cells = len(rows) * max_length
    ids, segments = np.full(cells, pad, dtype=np.int64), np.zeros(cells, dtype=np.int64)
    offsets = [0]
    live = 0
    for end in range(max_length, cells + 1, max_length):
        row = rows[end // max_length - 1]
        at = end - max_length
        for sequence in row:
            start, at = at, at + len(sequence.ids)
            if at > end:
                raise ValueError(f"a row of {max_length} cells cannot hold {at - end + max_length} tokens")
            ids[start:at], segments[start:at] = sequence.ids, sequence.segments
            live += at - start
            offsets.append(at)
        if at < end:
            offsets.append(end)
    lengths = np.diff(offsets)
    positions = np.arange(cells) - np.repeat(offsets[:-1], lengths)
    offsets += [cells] * _spare("sequences", len(lengths), max_sequences)
    return Packed(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        segments=torch.from_numpy(segments),
        offsets=torch.tensor(offsets, dtype=torch.int32),
        max_length=max_length,
        live=live,
        flow=_flow(rows) if streams else None,
        order=_order(rows, max_length),
    )


def _flow(rows: Sequence[Sequence[Tokens]]) -> Flow:
    """Return how the rows go on: a row begins with its first sequence, and its stream comes through its last one."""
    through = [sum(len(each.ids) for each in row[:-1]) + _through(row[-1]) if row else 0 for row in rows]
    backward = [bool(row) and row[0].backward for row in rows]
    return Flow(
        continues=torch.tensor([bool(row) and row[0].continues for row in rows]),
        through=torch.tensor(through),
        backward=torch.tensor(backward) if any(backward) else None,
    )


def _through(sequence: Tokens) -> int:
    return len(sequence.ids) if sequence.through is None else sequence.through


def _order(rows: Sequence[Sequence[Tokens]], max_length: int) -> torch.Tensor | None:
    """Return the order of every cell, None where no sequence has one; dead cells come at 0."""
    if not any(each.order is not None for row in rows for each in row):
        return None
    order = np.zeros((len(rows), max_length), dtype=np.int64)
    for cells, row in zip(order, rows, strict=True):
        known = [np.zeros(len(each.ids), np.int64) if each.order is None else each.order for each in row]
        placed = np.concatenate([cells[:0], *known])
        cells[: len(placed)] = placed
    return torch.from_numpy(order.reshape(-1))


def _targets(rows: Sequence[Row], max_length: int, max_targets: dict[str, int] | None) -> dict[str, Targets]:
    """Move every example's targets to where it lies, and fill them up."""
    names = {name for row in rows for example in row for name in example.targets}
    limits = dict.fromkeys(names) if max_targets is None else max_targets
    found: dict[str, Pairs] = {name: [] for name in limits}
    for number, row in enumerate(rows):
        at = number * max_length
        for example in row:
            for name in example.targets.keys() & found.keys():
                index, label = example.targets[name]
                found[name].append((index + at, label))
            at += len(example.tokens.ids)
    return {name: _fill_up(name, pairs, limits[name], max_length) for name, pairs in found.items()}


def _fill_up(name: str, pairs: Pairs, number: int | None, max_length: int) -> Targets:
    """Join the targets of one name and add rows that count nothing up to `number`."""
    index = np.concatenate([np.zeros(0, dtype=np.int64), *(index for index, _ in pairs)])
    label = np.concatenate([label for _, label in pairs]) if pairs else np.zeros(0, dtype=np.int64)
    spare = (0, _spare(f"{name} targets", len(index), number))
    nothing = np.nan if np.issubdtype(label.dtype, np.floating) else IGNORE
    label = np.pad(label, [spare, *[(0, 0)] * (label.ndim - 1)], constant_values=nothing)
    most = int(np.bincount(index // max_length).max(initial=0))
    return Targets(torch.from_numpy(np.pad(index, spare)), torch.from_numpy(label), most=most)


def _spare(what: str, number: int, limit: int | None) -> int:
    """Return how many are left up to the limit."""
    if limit is None:
        return 0
    if number > limit:
        raise ValueError(f"a batch planned for {limit} {what} got {number}")
    return limit - number


def _best_fit(sizes: list[int], max_length: int, max_sequences: int) -> list[int]:
    """Return the row of every size, given in falling order: each goes where it leaves the least room.

    Rows with room are kept in stacks by their room, and the stacks that are not empty as bits of one integer.
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

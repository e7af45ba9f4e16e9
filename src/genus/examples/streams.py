"""Streams of contiguous text, for recurrence memory: row i of a batch continues row i of the batch before."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np

from genus.examples import EpochPlan, ExampleFormat
from genus.examples.blocks import follow
from genus.examples.feed.bins import PackedRows
from genus.examples.feed.row import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from genus.examples.feed.planner import Planner


class Streams(ExampleFormat):
    """A format of contiguous text with ordered rows, so that recurrence memory of a row serves the next of its stream.

    The rows of an epoch are divided among the S streams of a batch: stream s has rows [s R / S, (s + 1) R / S) of R,
    one per batch. So row n of the endless sequence continues row n - S, independently of the micro-batch size.
    """

    def rows(self, plan: EpochPlan, max_length: int, max_sequences: int | None = None) -> PackedRows:
        """Return the rows of an epoch in order: each holds as many of the next examples as fit."""
        return successive(plan.lengths["tokens"], max_length, max_sequences)


def successive(lengths: NDArray[np.int64], max_length: int, max_sequences: int | None = None) -> PackedRows:
    """Fill rows with examples in order (next fit), at most `max_sequences` per row."""
    numbers = np.arange(len(lengths))
    through = np.cumsum(lengths)
    onward = np.searchsorted(through, through - lengths + max_length, side="right")
    if max_sequences is not None:
        onward = np.minimum(onward, numbers + max_sequences)
    return PackedRows(numbers, np.append(follow(onward), len(lengths)))


def row_at(place: int, rows: int, streams: int) -> int | None:
    """Return the row at a slot of an epoch; None if its stream has ended, as some do one row before the others."""
    step, stream = divmod(place, streams)
    first, end = stream * rows // streams, (stream + 1) * rows // streams
    return first + step if first + step < end else None


def places(rows: int, streams: int) -> int:
    """Return the number of row slots of an epoch: streams x the number of rows of the longest stream."""
    return -(-rows // streams) * streams


class StreamOrder:
    """All epochs of a format that is `Streams` laid end to end, the rows of each in their order.

    Epochs differ a little in their number of rows, which is remembered; the first request for a late row plans every
    epoch before it, if plans are drawn.
    """

    def __init__(self, planner: Planner, streams: int) -> None:
        """Share the rows of each epoch out among `streams`."""
        self.planner, self.streams = planner, streams
        self._starts = [0]

    def row(self, number: int) -> Row:
        """Return a row of the endless sequence, counted from 0."""
        epoch, place = self._locate(number)
        return self._row(epoch, place, self.streams)

    def epoch(self, number: int) -> float:
        """Return how many epochs have passed before a row."""
        epoch, place = self._locate(number)
        return epoch + place / self._places(epoch, self.streams)

    def once(self, streams: int) -> Iterator[Row]:
        """Return the rows of epoch 0, shared out among other streams."""
        return (self._row(0, place, streams) for place in range(self._places(0, streams)))

    def _row(self, epoch: int, place: int, streams: int) -> Row:
        version = self.planner.version(epoch)
        plan, rows = self.planner(0, version)
        row = row_at(place, len(rows), streams)
        return Row(plan, 0, version, rows.examples[:0] if row is None else rows[row], opens=place < streams)

    def _places(self, epoch: int, streams: int) -> int:
        """Return the number of rows of an epoch, those included that only fill up streams that end before others."""
        return places(self.planner.rows(0, self.planner.version(epoch)), streams)

    def _locate(self, row: int) -> tuple[int, int]:
        """Return the epoch of a row of the endless sequence, and the row's place in it."""
        while self._starts[-1] <= row:
            self._starts.append(self._starts[-1] + self._places(len(self._starts) - 1, self.streams))
        epoch = bisect_right(self._starts, row) - 1
        return epoch, row - self._starts[epoch]

"""Streams of contiguous text, for recurrence memory: row i of a batch continues row i of the batch before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.examples import EpochPlan, ExampleFormat
from genus.examples.blocks import follow
from genus.examples.feed.bins import PackedRows

if TYPE_CHECKING:
    from numpy.typing import NDArray


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

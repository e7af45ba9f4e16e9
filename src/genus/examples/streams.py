"""Formats of contiguous text: a batch has as many streams as rows, and a row goes on where its stream had come to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.examples import EpochPlan, ExampleFormat
from genus.examples.blocks import follow
from genus.examples.feed.bins import PackedRows

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Streams(ExampleFormat):
    """A format whose rows keep an order, so that what a network remembers of one row serves the next of its stream.

    The rows of an epoch are shared out among the S streams of a batch: stream s has rows [s R / S, (s + 1) R / S) of R,
    one in each batch. So row n of the endless sequence goes on from row n - S, whatever the micro-batch.
    """

    def rows(self, plan: EpochPlan, max_length: int, max_sequences: int | None = None) -> PackedRows:
        """Return the rows of an epoch in their order: each holds the examples that follow, as many as fit."""
        return successive(plan.lengths["tokens"], max_length, max_sequences)


def successive(lengths: NDArray[np.int64], max_length: int, max_sequences: int | None = None) -> PackedRows:
    """Return rows filled with examples in their order, `max_sequences` of them at most."""
    numbers = np.arange(len(lengths))
    through = np.cumsum(lengths)
    onward = np.searchsorted(through, through - lengths + max_length, side="right")
    if max_sequences is not None:
        onward = np.minimum(onward, numbers + max_sequences)
    return PackedRows(numbers, np.append(follow(onward), len(lengths)))


def row_at(place: int, rows: int, streams: int) -> int | None:
    """Return the row at a place of an epoch; None where its stream has ended, as some do one row before the others."""
    step, stream = divmod(place, streams)
    first, end = stream * rows // streams, (stream + 1) * rows // streams
    return first + step if first + step < end else None


def places(rows: int, streams: int) -> int:
    """Return how many places an epoch has: those of its longest stream, for every stream."""
    return -(-rows // streams) * streams

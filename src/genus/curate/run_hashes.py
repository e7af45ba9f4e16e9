"""Hashes of runs of units, such as bytes or tokens, at every place of a long row at once; and which of them repeat.

A run of `length` units that stands at two places is found in two steps. Of the hashes of the shorter runs within it the
least is its *anchor*: equal runs have the same anchor, and neighbours mostly share one, so that some 4 of `length`
places are anchors (Schleimer, Wilkerson and Aiken 2003, "Winnowing", section 3). Whole runs are hashed only where the
anchor repeats. Both kinds of hashes are sorted shard by shard, and then merged, a range of values at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genus.curate.minhash import STEP, mixed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from genus.curate import Kept

FACTORS = (0x9E3779B97F4A7C15, 0xD1342543DE82EF95, 0xAF251AF3B0F025B5)
"""Odd multipliers with good spectra (Steele and Vigna 2021, "Computationally easy, spectrally good multipliers", and
SplitMix64's): the first is of anchors, the others of the two halves of the hash of a whole run."""
CHUNK = 1 << 16
"""Places whose hashes are computed at once, as many as fit into a processor's cache."""
AT_ONCE = 1 << 21
"""Hashes that are merged at once, which takes some 100 bytes each."""


class Runs(NamedTuple):
    """The runs of a chunk of places."""

    begin: int
    """The first place."""
    units: NDArray[Any]
    """From the first place on, to the end of the last run."""
    parts: NDArray[np.uint64]
    """Hash of the shorter run at each place of the chunk and after it."""
    anchors: NDArray[np.uint64]
    """(places,) the anchor of the run that begins there."""
    within: NDArray[np.bool_]
    """(places,) whether that run ends in the document in which it begins."""


@dataclass(frozen=True)
class Anchors:
    """The anchors of a shard's runs, sorted; of those that stand at many places two."""

    length: int

    def __call__(self, units: NDArray[Any], counts: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the anchors of documents, given their units one after another and the number of each."""
        window, last, found = window_of(self.length)[1], -1, []
        for runs in runs_of(units, counts, self.length):
            edge = np.zeros(window - 1, np.uint64)
            inner = np.where(runs.within, runs.anchors, 0)
            highest = sliding(np.concatenate([edge, inner, edge]), window, np.maximum)
            places = np.flatnonzero((highest == runs.parts) & (runs.parts > 0))
            fresh = places[places + runs.begin > last]  # a place stands in two chunks
            if len(places):
                last = int(places[-1]) + runs.begin
            found.append(runs.parts[fresh])
        return at_most_twice(np.sort(np.concatenate([np.zeros(0, np.uint64), *found])))


@dataclass(frozen=True)
class Repeated:
    """The runs of a shard whose anchor stands twice in the corpus: (3, runs) halves of the hash, and places; sorted."""

    length: int
    anchors: Kept
    """Those that stand twice, sorted."""

    def __call__(self, units: NDArray[Any], counts: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the runs of documents, given their units one after another and the number of each."""
        anchors = self.anchors.load()
        found = [np.zeros((3, 0), np.uint64)]
        for runs in runs_of(units, counts, self.length):
            places = np.flatnonzero(repeats(runs.anchors, anchors) & runs.within)
            if len(places):
                halves = [
                    hashes(spread(runs.units, half), self.length, FACTORS[half])[places].astype(np.uint64)
                    for half in (1, 2)
                ]
                found.append(np.stack([*halves, (places + runs.begin).astype(np.uint64)]))
        whole = np.concatenate(found, axis=1)
        return whole[:, np.lexsort((whole[1], whole[0]))]


def window_of(length: int) -> tuple[int, int]:
    """Return the length of the shorter runs among which the anchor is, and how many there are in a run."""
    short = (length + 1) // 2
    return short, length - short + 1


def runs_of(units: NDArray[Any], counts: NDArray[np.int64], length: int) -> Iterator[Runs]:
    """Yield the runs of documents chunk by chunk, without chunks in which none lies within a document."""
    short, window = window_of(length)
    within = np.ones(len(units), np.bool_)
    end = 0
    for count in counts.tolist():
        begin, end = end, end + count
        within[max(begin, end - length + 1) : end] = False
    for begin in range(0, len(units) - length + 1, CHUNK):
        inside = within[begin : min(begin + CHUNK, len(units) - length + 1)]
        if inside.any():
            mine = np.asarray(units[begin : begin + len(inside) + length - 1])
            parts = hashes(spread(mine, 0), short, FACTORS[0])
            yield Runs(begin, mine, parts, sliding(parts, window, np.minimum), inside)


def spread(units: NDArray[Any], seed: int) -> NDArray[np.uint64]:
    """Return a hash of 64 bits of each unit alone."""
    if units.dtype == np.uint8:
        found: NDArray[np.uint64] = _table(seed)[units]
        return found
    return mixed(units.astype(np.uint64) + np.uint64(seed << 40))


@cache
def _table(seed: int) -> NDArray[np.uint64]:
    return mixed(np.arange(256, dtype=np.uint64) + np.uint64(seed << 40) + STEP)


def hashes(values: NDArray[np.uint64], n: int, factor: int) -> NDArray[np.uint64]:
    """Return Σ_i values[p + i] factor^(n - 1 - i) modulo 2^64 at each place p, (len(values) - n + 1,).

    The runs' lengths are doubled, and those that make up n are joined: 2 log2(n) operations for each place.
    """
    found, length, block, size = values[:0], 0, values, 1
    while size <= n:
        if n & size:
            rest = len(values) - (length + size) + 1
            head = block[:rest] * np.uint64(pow(factor, length, 1 << 64))
            found = head + found[size : size + rest] if length else head
            length += size
        if 2 * size <= n:
            rest = len(values) - 2 * size + 1
            block = block[:rest] * np.uint64(pow(factor, size, 1 << 64)) + block[size : size + rest]
        size *= 2
    return found


def sliding(values: NDArray[np.uint64], n: int, function: np.ufunc) -> NDArray[np.uint64]:
    """Return the least (`np.minimum`) or greatest of n values from each place on, (len(values) - n + 1,)."""
    size = 1
    while 2 * size <= n:
        values, size = function(values[:-size], values[size:]), 2 * size
    last: NDArray[np.uint64] = values if size == n else function(values[: size - n], values[n - size :])
    return last


def at_most_twice(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return sorted values without those that stand before two equal ones."""
    kept = np.ones(len(values), np.bool_)
    kept[2:] = values[2:] != values[:-2]
    return values[kept]


def repeats(values: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return which values are among sorted ones; equal neighbours are looked up once."""
    if not len(known):
        return np.zeros(len(values), np.bool_)
    begins = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    found = np.minimum(np.searchsorted(known, values[begins]), len(known) - 1)
    return np.repeat(known[found] == values[begins], np.diff(np.concatenate([begins, [len(values)]])))


def twice(shards: Sequence[NDArray[np.uint64]], at_once: int | None = None) -> Iterator[NDArray[np.uint64]]:
    """Yield the values that stand twice in sorted arrays, in ascending order."""
    for parts in in_ranges(shards, at_once):
        values = np.sort(np.concatenate(parts))
        again = values[1:][values[1:] == values[:-1]]
        yield again[np.concatenate([[True], again[1:] != again[:-1]])] if len(again) else again


def in_ranges(shards: Sequence[NDArray[np.uint64]], at_once: int | None = None) -> Iterator[list[NDArray[np.uint64]]]:
    """Yield what sorted arrays hold in one range of values after another, some `at_once` values in all.

    Args:
        shards: arrays sorted by their values, or by their first row.
        at_once: None: `AT_ONCE`.
    """
    sizes = [shard.shape[-1] for shard in shards]
    parts = max(1, -(-sum(sizes) // (at_once or AT_ONCE)))
    begins = [0] * len(sizes)
    for part in range(1, parts + 1):
        limit, found = np.uint64(part * ((1 << 64) // parts) - 1), []
        for number, shard in enumerate(shards):
            first = shard if shard.ndim == 1 else shard[0]
            end = sizes[number] if part == parts else int(np.searchsorted(first, limit))
            found.append(np.asarray(shard[..., begins[number] : end]))
            begins[number] = end
        yield found

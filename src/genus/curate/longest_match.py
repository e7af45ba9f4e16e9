"""Longest matches: of a text, the longest string from a place on that stands in an indexed corpus as it is.

Of all suffixes of the corpus, the two between which the text's own would be sorted share the most with it, so that some
25 looks at each shard are enough (Manber and Myers 1993, section 2).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from genus.curate.suffix_index import Opened, SuffixIndex

LONGEST = 1 << 14
"""Bytes to which a match is followed."""


class LongestMatch:
    """Longest matches with the text of an index."""

    def __init__(self, index: SuffixIndex) -> None:
        """Open the shards of an index.

        Raises:
            UsageError: there is none.
            GenusError: it is damaged.
        """
        self.shards = [_Sorted(shard) for shard in index.opened()]

    def size(self, text: bytes, start: int) -> int:
        """Return how many bytes of a text in UTF-8, from `start` on, stand together in one document of the corpus."""
        wanted = text[start : start + LONGEST]
        return max((shard.size(wanted) for shard in self.shards), default=0)


class _Sorted(NamedTuple):
    """A shard whose suffixes are compared."""

    shard: Opened

    def size(self, wanted: bytes) -> int:
        """Return how many of the first bytes of `wanted` stand in the shard."""
        text, order = memoryview(self.shard.text), np.asarray(self.shard.suffixes)  # type: ignore[arg-type]

        def head(place: np.int32) -> bytes:
            return bytes(text[place : place + len(wanted)])

        at = bisect_left(order, wanted, key=head)
        return max((shared(head(order[i]), wanted) for i in (at - 1, at) if 0 <= i < len(order)), default=0)


def shared(one: bytes, other: bytes) -> int:
    """Return how many bytes two strings share from their beginning on."""
    size = min(len(one), len(other))
    if one[:size] == other[:size]:
        return size
    different = np.frombuffer(one, np.uint8, size) != np.frombuffer(other, np.uint8, size)
    return int(different.argmax())

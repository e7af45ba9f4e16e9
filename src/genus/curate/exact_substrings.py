"""Exact substrings: parts of texts that stand elsewhere in the corpus too (Lee et al. 2021, arXiv:2107.06499)."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from genus.curate import CorpusFilter, Decision, Outcome, Removal
from genus.curate.run_hashes import Anchors, Repeated, in_ranges, twice
from genus.curate.tokenizers import loaded
from genus.part import Count
from genus.text.sentences import split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from genus.curate import Keys

TOKENS, BYTES = 50, 200
"""Least lengths: Lee et al. 2021, section 4.1, and about what so many of GPT-2's tokens have of English text (4.2 to
4.4 bytes each)."""
AT_ONCE = 1 << 22
"""Flags that are spread at once."""
RULE = "repeated_substring"


class ExactSubstrings(CorpusFilter):
    """Remove every part of a text, `length` units or more, that stands in the corpus twice.

    Units are bytes of UTF-8, or tokens. Runs of `length` units are compared by hashes of 128 bits, which finds what a
    suffix array finds: in what repeats for longer, each such run repeats. A part that repeats itself (a line of dashes)
    is shortened to one period, or goes. Memory does not grow with the corpus: some 500 MB, and a shard for each worker;
    on disk a byte for each unit, or four for each token, twice, and up to 24 for each unit that repeats.
    """

    length: Count | None = None
    """Least units of a part; None: 200 bytes, or 50 tokens."""
    tokenizer: str | None = None
    """Folder of the tokenizer whose tokens are the units; None: bytes."""
    keep: Literal["first", "none"] = "first"
    """first: a part is removed from all but one of the texts that have it (Lee et al. 2021, section 4.1); none: it is
    removed everywhere, as by their released code."""
    mask: str | None = None
    """What takes the place of a part; None: nothing does."""
    sentences: Literal["cut", "remove", "keep"] = "cut"
    """What becomes of a sentence of which only some is such a part."""

    @property
    def units(self) -> int:
        """Least units of a part."""
        return self.length or (BYTES if self.tokenizer is None else TOKENS)

    @property
    def files(self) -> tuple[str, ...]:
        """The tokenizer."""
        folder = None if self.tokenizer is None else Path(self.tokenizer)
        return () if folder is None else tuple(str(path) for path in sorted(folder.glob("*")) if path.is_file())

    def check(self) -> None:
        """Load the tokenizer, if there is one."""
        if self.tokenizer is not None:
            loaded.cache_clear()  # the folder may have changed
            loaded(Path(self.tokenizer))

    def keys(self, text: str) -> NDArray[Any]:
        """Return the units of the text."""
        if self.tokenizer is None:
            return np.frombuffer(text.encode(errors="replace"), np.uint8)
        return loaded(Path(self.tokenizer)).encode_with_offsets(text)[0].astype(np.uint32)

    def decide(self, keys: Keys) -> Decision:
        """Find the units that stand in a run that is removed."""
        anchors = keys.derive("anchors", Anchors(self.units))
        kept = keys.keep("repeated", twice(anchors))
        found = keys.derive("runs", Repeated(self.units, kept))
        begins = [0, *accumulate(len(shard) for shard in keys.shards())]
        flags = keys.scratch(begins[-1], np.bool_)
        most = 0
        for parts in in_ranges(found):
            places, most = self._removed(parts, begins, most)
            flags[places] = True
        spread_over(flags, self.units)
        share = round(float(np.count_nonzero(flags)) / max(1, len(flags)), 4)
        return Decision(flags, {"least units": self.units, "share of units": share, "most occurrences": most})

    def _removed(
        self, shards: Sequence[NDArray[np.uint64]], begins: list[int], most: int
    ) -> tuple[NDArray[np.int64], int]:
        """Return the places of runs that are removed, given (3, runs) of each shard; and the most that are equal."""
        first, second = (np.concatenate([shard[half] for shard in shards]) for half in (0, 1))
        places = np.concatenate(
            [shard[2].astype(np.int64) + begin for shard, begin in zip(shards, begins[:-1], strict=True)]
        )
        order = np.lexsort((second, first))  # stable: equal runs stay in the corpus's order
        same = (first[order][1:] == first[order][:-1]) & (second[order][1:] == second[order][:-1])
        gone = np.concatenate([[False], same])[: len(order)]
        ends = np.flatnonzero(np.concatenate([[True], ~same, [True]]))
        most = max(most, int(np.diff(ends).max())) if same.any() else most
        if self.keep == "none":
            gone[:-1] |= same
        return places[order[gone]], most

    def apply(self, text: str, removed: NDArray[np.bool_]) -> Outcome:
        """Return the text without the parts whose units are removed."""
        if not removed.any():
            return Outcome(text)
        gone = self._characters(text, np.asarray(removed))
        if self.sentences != "cut":
            gone = of_sentences(text, gone, touched=self.sentences == "remove")
        edges = np.flatnonzero(np.diff(gone.astype(np.int8), prepend=0, append=0)).tolist()
        places = list(zip(edges[::2], edges[1::2], strict=True))
        stays = [text[begin:end] for begin, end in zip([0, *edges[1::2]], [*edges[::2], len(text)], strict=True)]
        if not places:
            return Outcome(text)
        if not "".join(stays).strip():
            return Outcome("", Removal(RULE, text))
        return Outcome(
            (self.mask or "").join(stays).strip(), None, [Removal(RULE, text[begin:end]) for begin, end in places]
        )

    def _characters(self, text: str, removed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return of which characters all units are removed."""
        if self.tokenizer is None:
            data = np.frombuffer(text.encode(errors="replace"), np.uint8)
            return np.logical_and.reduceat(removed, np.flatnonzero(data & 0xC0 != 0x80))
        spans = loaded(Path(self.tokenizer)).encode_with_offsets(text)[1]
        edges = np.flatnonzero(np.diff(removed.astype(np.int8), prepend=0, append=0))
        gone = np.zeros(len(text), np.bool_)
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            gone[spans[begin, 0] : spans[end - 1, 1]] = True
        return gone


def spread_over(flags: NDArray[np.bool_], length: int) -> None:
    """Set with each flag those of the `length - 1` places after it, in place and a part at a time."""
    before = np.zeros(length - 1, np.bool_)
    for begin in range(0, len(flags), AT_ONCE):
        mine = np.concatenate([before, flags[begin : begin + AT_ONCE]])
        before = mine[len(mine) - length + 1 :]
        counts = np.concatenate([[0], np.cumsum(mine, dtype=np.int64)])
        flags[begin : begin + AT_ONCE] = counts[length:] > counts[:-length]


def of_sentences(text: str, gone: NDArray[np.bool_], *, touched: bool) -> NDArray[np.bool_]:
    """Return which characters go if sentences go whole, white space before them included.

    Args:
        text: the text.
        gone: which of its characters are removed.
        touched: whether a sentence goes of which any is removed; else only one of which all is, white space apart.
    """
    found, end = np.zeros(len(text), np.bool_), 0
    for sentence in split(text):
        begin, end = end, end + len(sentence)
        inner = [bool(gone[begin + place]) for place, character in enumerate(sentence) if not character.isspace()]
        found[begin:end] = any(inner) if touched else bool(inner) and all(inner)
    return found

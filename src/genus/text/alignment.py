"""Alignment of a text with what a normalization made of it, by which places in one are found in the other."""

from __future__ import annotations

import difflib
import itertools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Block = tuple[int, int, int, int]
    """Characters [a, b) of the text and [c, d) of the normalized one, which correspond."""

RUNS = re.compile(r"\s+|[^\s]+")


def aligned(text: str, cleaned: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans [start, stop) of a normalized text as spans of the text from which it was made.

    Words that are equal but for case correspond, then characters between those, as `difflib` finds them; of what was
    replaced, every character corresponds to the whole that it replaces, and what was put in to no character.
    """
    if text == cleaned:
        return list(spans)
    starts, stops = [len(text)] * len(cleaned), [len(text)] * len(cleaned)
    for a, b, c, d in _blocks(_same_case(text), _same_case(cleaned)):
        equal = b - a == d - c
        for place in range(c, d):
            starts[place] = a + place - c if equal else a
            stops[place] = a + place - c + 1 if equal else b
    return [(starts[start], stops[stop - 1]) if start < stop else (0, 0) for start, stop in spans]


def _same_case(text: str) -> str:
    """Return the text in lower case, character by character, so that its length is kept."""
    return "".join(low if len(low := one.lower()) == 1 else one for one in text)


def _blocks(text: str, cleaned: str) -> Iterator[Block]:
    """Yield the blocks of characters that correspond: runs without white space first, then what differs between."""
    sides = [RUNS.findall(side) for side in (text, cleaned)]
    ends = [[0, *itertools.accumulate(map(len, side))] for side in sides]
    for a, b, c, d in _opcodes(*sides):
        block = ends[0][a], ends[0][b], ends[1][c], ends[1][d]
        yield from [block] if sides[0][a:b] == sides[1][c:d] else _within(text, cleaned, block)


def _within(text: str, cleaned: str, block: Block) -> Iterator[Block]:
    a, b, c, d = block
    for e, f, g, h in _opcodes(text[a:b], cleaned[c:d]):
        yield a + e, a + f, c + g, c + h


def _opcodes(one: Sequence[str], other: Sequence[str]) -> Iterator[Block]:
    for _, a, b, c, d in difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        yield a, b, c, d

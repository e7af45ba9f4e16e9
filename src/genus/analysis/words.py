"""Words of a text as a reader sees them, and the sums over their pieces."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from genus.analysis.findings import Word

Piece = tuple[int, int, float]
"""First character, character after the last, and a number."""

UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Scripts without spaces between words: Thai and Lao, Burmese, Khmer, Japanese and Chinese."""


def spans_of(text: str, starts: Iterable[int] = ()) -> list[tuple[int, int]]:
    """Return the words of a text: what stands between white space; in scripts without it, each piece.

    Args:
        text: the text.
        starts: characters at which pieces begin; none of them parts a letter from its marks.
    """
    found: list[tuple[int, int]] = []
    cuts = {start for start in starts if 0 < start < len(text) and _parts(text, start)}
    for match in re.finditer(r"\S+", text):
        inner = sorted(cut for cut in cuts if match.start() < cut < match.end())
        found += pairwise([match.start(), *inner, match.end()])
    return found


def _parts(text: str, place: int) -> bool:
    """Return whether a word may end before a character: beside a script without spaces, before no mark."""
    mark = unicodedata.category(text[place]).startswith("M")
    return not mark and bool(UNSPACED.match(text[place]) or UNSPACED.match(text[place - 1]))


def summed(spans: Sequence[tuple[int, int]], pieces: Iterable[Piece]) -> list[Word]:
    """Return the words at these characters with the sums of their pieces; None for a word without a piece.

    A piece is of the word in which its text begins, without the white space before it; of none, it is the next one's.
    """
    ends = [end for _, end in spans]
    totals: list[float | None] = [None] * len(spans)
    for start, _, value in pieces:
        number = min(int(np.searchsorted(ends, start, side="right")), len(spans) - 1)
        if number >= 0:
            totals[number] = (totals[number] or 0.0) + value
    return [(start, end, total) for (start, end), total in zip(spans, totals, strict=True)]

"""Numeric ranges for `Annotated` types of choices, which are validated whenever a part is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Range(NamedTuple):
    """The valid numbers of a choice, as words for error messages and as a predicate."""

    words: str
    holds: Callable[[float], bool]


Count = Annotated[int, Range("at least 1", lambda number: number >= 1)]
Depth = Annotated[Count, Range("at most 10,000", lambda number: number <= 10_000)]
"""Number of layers: what is planned and built of each takes time, so that an absurd number would be noticed late."""
VocabSize = Annotated[Count, Range("at most 16,777,216", lambda number: number <= 1 << 24)]
"""Number of pieces: memory for as many is taken before a vocabulary is trained."""
Natural = Annotated[int, Range("at least 0", lambda number: number >= 0)]
AtLeastOne = Annotated[float, Range("at least 1", lambda number: number >= 1)]
Positive = Annotated[float, Range("more than 0", lambda number: number > 0)]
NotNegative = Annotated[float, Range("at least 0", lambda number: number >= 0)]
Share = Annotated[float, Range("a share from 0 to 1", lambda number: 0 <= number <= 1)]
SomeShare = Annotated[float, Range("a share above 0 and at most 1", lambda number: 0 < number <= 1)]
Fraction = Annotated[float, Range("a fraction from 0 to below 1", lambda number: 0 <= number < 1)]

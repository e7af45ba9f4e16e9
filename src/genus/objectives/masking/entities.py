"""Named entities and dates by rule: the spans whose prediction takes knowledge of the world."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from genus.objectives.masking.knowledge import PUNCTUATION, STOP_WORDS, Chunker
from genus.part import Count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Kind = Literal["entity", "date"]
MONTHS = """
january february march april may june july august september october november december
jan feb mar apr jun jul aug sep sept oct nov dec
"""
"""English names of months, and their abbreviations."""
YEAR = re.compile(r"1\d{3}|20\d{2}")
DAY = re.compile(r"([12]?\d|3[01])(st|nd|rd|th)?")
ENDS = ".!?"
"""Punctuation after which a capital letter says nothing of a word."""


class EntitiesAndDates(Chunker):
    """Rule-based finder of named entities and dates, which needs no model: all other words are of no chunk.

    An entity is a run of words that begin with capital letters, within punctuation, without stop words; a lone word
    that begins a sentence is none. A date is a run of days, months and years with a year, or with a month and a day;
    commas may stand in it.

    Deviation from Guu et al. 2020, section 3.4: they find entities by a tagger that was trained on CoNLL-2003, dates by
    a regular expression. A tagger of one's own is another `Chunker`.
    """

    longest: Count = 6
    """Largest number of words of a chunk; a longer run is none."""
    stop_words: tuple[str, ...] | None = None
    """Stop words in lowercase; None: the English ones."""
    months: tuple[str, ...] | None = None
    """Names of months in lowercase; None: the English ones."""

    def chunks(self, words: Sequence[str]) -> list[tuple[int, int]]:
        """Return the runs of words that are entities or dates."""
        found = []
        for kind, run in groupby(self._labeled(words), key=lambda one: one[1:]):
            places = [place for place, *_ in run]
            first, past = places[0], places[-1] + (words[places[-1]] != ",")
            if kind[0] == "date":
                kept = self._is_date(words[first:past])
            else:
                kept = kind[0] == "entity" and (past - first > 1 or not _begins(words, first))
            if kept and past - first <= self.longest:
                found.append((first, past))
        return found

    def _labeled(self, words: Sequence[str]) -> Iterator[tuple[int, Kind | None, int]]:
        """Yield each word's index, its kind (None: no chunk), and the index of its punctuation-free stretch."""
        stop_words = frozenset(STOP_WORDS.split() if self.stop_words is None else self.stop_words)
        stretch, dated = 0, False
        for place, word in enumerate(words):
            bare, comma = word.strip(PUNCTUATION), dated and word == ","
            dated = comma or any(self._parts(bare))
            stretch += word[:1] in PUNCTUATION and not comma
            kind: Kind | None = "date" if dated else "entity" if bare[:1].isupper() else None
            yield place, None if bare.lower() in stop_words and not dated else kind, stretch
            stretch += word[-1:] in PUNCTUATION and not (dated and word.endswith(","))

    def _parts(self, bare: str) -> tuple[bool, bool, bool]:
        """Return whether a word is a day, the name of a month with a capital letter, or a year."""
        months = frozenset(MONTHS.split() if self.months is None else self.months)
        named = bare[:1].isupper() and bare.lower() in months
        return bool(DAY.fullmatch(bare)), named, bool(YEAR.fullmatch(bare))

    def _is_date(self, words: Sequence[str]) -> bool:
        """Return whether a run of days, months and years is a date."""
        parts = zip(*(self._parts(one.strip(PUNCTUATION)) for one in words), strict=True)
        day, month, year = (any(found) for found in parts)
        return year or (month and day)


def _begins(words: Sequence[str], place: int) -> bool:
    """Return whether a word begins a sentence."""
    return place == 0 or words[place - 1].rstrip("\"')\u2019\u201d")[-1:] in tuple(ENDS)

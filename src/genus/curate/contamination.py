"""Contamination: text of evaluation tables in the corpus (Brown et al. 2020, arXiv:2005.14165, appendix C)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genus.curate import Filter, Outcome, Removal
from genus.curate.minhash import runs, words_of
from genus.errors import GenusError
from genus.files import reason
from genus.part import Count
from genus.text.read import read_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

OVERLAP = "overlap"


class Contamination(Filter):
    """Find, and remove, documents that share a run of `words` words with a row of an evaluation table.

    Words are in lower case, without punctuation. The report says under `found` of every row of a table, as
    `table.jsonl:3`, how many documents have it. Texts of fewer words are not looked for.
    """

    tables: tuple[str, ...] = ()
    """Paths of `.jsonl` files, also compressed: all text of a row counts, each value alone."""
    words: Count = 13
    remove: bool = True
    """False: documents are kept, and the report says what is in them."""

    @property
    def contamination(self) -> str:
        """What was done about the tables."""
        if not self.tables:
            return ""
        done = "were removed" if self.remove else "were counted, and kept"
        return f"Documents that share {self.words} words in a row with a row of {', '.join(self.tables)} {done}."

    @property
    def files(self) -> tuple[str, ...]:
        """The tables."""
        return self.tables

    def check(self) -> None:
        """Read the tables."""
        index.cache_clear()  # a file may have changed
        index(self.tables, self.words)

    def apply(self, text: str) -> Outcome:
        """Return the text unless it shares a run with a table, and the rows with which it does."""
        table = index(self.tables, self.words)
        mine = runs(words_of(text), self.words)
        _, places, _ = np.intersect1d(table.runs, mine, return_indices=True)
        found = [table.names[row] for row in sorted({row for place in places for row in table.rows[place]})]
        if not found:
            return Outcome(text)
        return Outcome("", Removal(OVERLAP, text), found=found) if self.remove else Outcome(text, found=found)


class Index(NamedTuple):
    """The runs of words of evaluation tables."""

    runs: NDArray[np.uint64]
    """Different hashes, sorted."""
    rows: list[tuple[int, ...]]
    """The rows that have each of them."""
    names: list[str]
    """Of each row: the table's file and the line."""


@cache
def index(tables: tuple[str, ...], n: int) -> Index:
    """Return the runs of n words of the rows of tables.

    Raises:
        GenusError: a table cannot be read, or none of its rows has so many words.
    """
    rows_of: dict[int, set[int]] = {}
    names: list[str] = []
    for table in tables:
        long = False
        for number, line in enumerate(read_whole(Path(table)).split("\n"), 1):
            if not line.strip():
                continue
            names.append(f"{table}:{number}")
            for text in _texts(_json(line, f"{table}, line {number}")):
                for run in runs(words_of(text), n):
                    rows_of.setdefault(int(run), set()).add(len(names) - 1)
                    long = True
        if not long:
            raise GenusError(f"{table}: no text in it has {n} words; take fewer words, or leave it out")
    found = sorted(rows_of)
    return Index(np.array(found, np.uint64), [tuple(sorted(rows_of[run])) for run in found], names)


def _json(line: str, where: str) -> object:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise GenusError(f"{where}: not a line of JSON ({reason(error)})") from None
    return value


def _texts(value: object) -> Iterator[str]:
    """Yield every text within a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)

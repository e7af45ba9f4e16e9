"""Rows of a prompted task's tables, and the worked examples that are drawn for each of them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from genus.errors import GenusError, UsageError, say
from genus.examples.keys import generator
from genus.tasks.notices import Notices
from genus.tasks.table import SUFFIXES, rows, suffix
from genus.text.sources import COMPRESSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from genus.prompts import PromptedTask, TableRow

SHOTS = 1 << 21
"""Purpose of the keys of draws: far from the purposes of training and of generation."""


def tables(places: Sequence[Path], pattern: str) -> list[Path]:
    """Return the tables at some places: files as they are given, of a folder those whose names fit the pattern.

    A pattern such as `test.jsonl` also fits a compressed file.

    Raises:
        UsageError: there is none.
    """
    found = [file for place in places for file in (_within(place, pattern) if place.is_dir() else [place])]
    if not found:
        where = ", ".join(map(str, places))
        raise UsageError(f"{where}: no table here is named {pattern!r}, with {', '.join(SUFFIXES)}; name the files")
    return found


def _within(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield the tables of a folder whose names fit a pattern, by name."""
    for path in sorted(folder.iterdir()):
        plain = path.with_suffix("") if path.suffix in COMPRESSIONS else path
        if plain.suffix in SUFFIXES and (path.match(pattern) or plain.match(pattern)):
            yield path


def read(task: PromptedTask, files: Sequence[Path], limit: int | None = None) -> list[TableRow]:
    """Return the rows of tables, up to `limit` of each file.

    Raises:
        GenusError: a file cannot be read or has no rows, or a column cannot be derived.
    """
    found: list[TableRow] = []
    for file in files:
        suffix(file)
        before, notices = len(found), Notices()
        for line, values in rows(file, notices):
            if limit is not None and len(found) - before == limit:
                break
            try:
                found.append(task.row(file, line, values))
            except ValueError as error:
                raise GenusError(f"{file}, line {line}: {error}") from None
        if len(found) == before:
            raise GenusError(f"{file}: holds no rows")
        for notice in notices.lines(file):
            say(notice)
    return found


class Shots:
    """Worked examples: for each tested row k others, drawn without replacement.

    A draw is keyed by the seed and the content of the row, so that it depends on no other tested row, nor on their
    order. A row is never an example of itself or of one with the same content.
    """

    def __init__(self, examples: Sequence[TableRow], number: int, seed: int) -> None:
        """Prepare to draw `number` of the examples for each row.

        Raises:
            UsageError: there are fewer.
        """
        if not 0 <= number <= len(examples):
            raise UsageError(f"--shots {number}: there are {len(examples):,} examples; ask for 0 to {len(examples):,}")
        self.examples, self.number, self.seed = examples, number, seed
        self.keys = [_key(row) for row in examples] if number else []

    def of(self, row: TableRow) -> list[TableRow]:
        """Return the examples of a row.

        Raises:
            UsageError: there are fewer without it.
        """
        if not self.number:
            return []
        own = _key(row)
        order = generator(self.seed, SHOTS, own).permutation(len(self.examples)).tolist()
        chosen = [self.examples[place] for place in order if self.keys[place] != own][: self.number]
        if len(chosen) < self.number:
            raise UsageError(f"--shots {self.number}: there are {len(chosen):,} examples beside {row}; ask for fewer")
        return chosen


def _key(row: TableRow) -> int:
    """Return a number of 64 bits for the content of a row."""
    text = json.dumps(row.values, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

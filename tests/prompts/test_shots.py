"""Worked examples: keyed by seed and row, never the row itself, never dependent on what else is tested."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from genus.errors import UsageError
from genus.prompts import TableRow
from genus.prompts.examples import Shots

ROWS = [TableRow(Path("train.jsonl"), number, {"question": f"q{number % 18}"}) for number in range(20)]


def lines(shots: Shots, row: TableRow) -> list[int]:
    return [one.line for one in shots.of(row)]


def test_neither_order_nor_other_rows_matter() -> None:
    drawn = {row.line: lines(Shots(ROWS, 4, 7), row) for row in ROWS}
    shots = Shots(ROWS, 4, 7)
    assert {row.line: lines(shots, row) for row in reversed(ROWS)} == drawn
    moved = TableRow(Path("other.jsonl"), 99, ROWS[3].values)
    assert lines(shots, moved) == drawn[3]
    assert len({tuple(one) for one in drawn.values()}) > 15
    assert {row.line: lines(Shots(ROWS, 4, 8), row) for row in ROWS} != drawn


def test_fewer_shots_are_the_first_of_more() -> None:
    for row in ROWS:
        assert lines(Shots(ROWS, 5, 0), row)[:2] == lines(Shots(ROWS, 2, 0), row)


def test_a_row_is_no_example_of_itself_nor_of_its_double() -> None:
    shots = Shots(ROWS, 18, 0)
    for row in ROWS[:2]:  # each stands there twice
        chosen = shots.of(row)
        assert len({one.line for one in chosen}) == 18
        assert row.values not in [one.values for one in chosen]


def test_every_example_is_drawn_alike() -> None:
    tested = [TableRow(Path("test.jsonl"), number, {"question": f"t{number}"}) for number in range(2000)]
    shots = Shots(ROWS, 3, 1)
    counts = Counter(line for row in tested for line in lines(shots, row))
    expected, spread = 2000 * 3 / 20, (2000 * 3 / 20 * (1 - 3 / 20)) ** 0.5
    assert all(abs(counts[row.line] - expected) < 4.5 * spread for row in ROWS)


def test_more_shots_than_examples() -> None:
    with pytest.raises(UsageError, match="--shots 21: there are 20 examples; ask for 0 to 20"):
        Shots(ROWS, 21, 0)
    with pytest.raises(UsageError, match="--shots -1: "):
        Shots(ROWS, -1, 0)
    with pytest.raises(UsageError, match=r"--shots 19: there are 18 examples beside train.jsonl, line 0"):
        Shots(ROWS, 19, 0).of(ROWS[0])
    assert Shots((), 0, 0).of(ROWS[0]) == []

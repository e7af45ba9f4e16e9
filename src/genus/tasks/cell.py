"""Cells of a table: which hold a text or a label, which are empty, and which hold something else."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from genus.tasks.table import TWICE

MISSING = ("", "nan", "NaN", "<NA>")
"""How files without a type of their own write that there is no value; the last three as NumPy and pandas print it."""


def text_in(row: dict[str, Any], column: str) -> str:
    """Return the text of a column; numbers, dates and the like as text, a missing value as an empty text.

    Raises:
        ValueError: the column holds something else, such as a list.
    """
    text = written(row[column], column)
    return "" if text in MISSING else text


def label_in(row: dict[str, Any], column: str) -> str | None:
    """Return the label of a column without the white space around it; None if there is no column or no value.

    Raises:
        ValueError: the column holds something else, such as a list.
    """
    label = written(row.get(column), column).strip()
    return None if label in MISSING else label


def several_in(row: dict[str, Any], column: str, what: str) -> list[Any] | None:
    """Return the list of a column, None if it has no value.

    Raises:
        ValueError: the column holds something else.
    """
    value = _given(row, column)
    if value is None:
        return None
    if not isinstance(value, list):
        raise ValueError(f"column {column!r} holds no list of {what}, which .jsonl and .parquet can; got {value!r:.40}")
    return value


def _given(row: dict[str, Any], column: str) -> Any:
    """Return what a column holds; None if it has no value."""
    value = row.get(column)
    if value is TWICE:
        raise ValueError(_twice(column))
    return None if value is None or _is_nan(value) or value == "" else value


def answers_in(row: dict[str, Any], column: str) -> list[tuple[str, int]] | None:
    """Return the answers of a column with the characters at which they begin, as SQuAD's tables have them.

    They are `{"text": [...], "answer_start": [...]}`, or a list of objects with a text and a start each. An empty text
    is no answer.

    Returns:
        The answers; empty: there is none; None: the column has no value.

    Raises:
        ValueError: the column holds something else.
    """
    value = _given(row, column)
    if value is None:
        return None
    several = value if isinstance(value, list) else [value]
    if not all(isinstance(one, dict) and {"text", "answer_start"} <= one.keys() for one in several):
        raise ValueError(
            f'column {column!r} holds no answers; expected {{"text": [...], "answer_start": [...]}}, got {value!r:.60}'
        )
    found: list[tuple[str, int]] = []
    for one in several:
        texts, starts = (side if isinstance(side, list) else [side] for side in (one["text"], one["answer_start"]))
        if len(texts) != len(starts):
            raise ValueError(f"column {column!r} holds {len(texts)} answers, but {len(starts)} of answer_start")
        found += [(written(text, column), _start(start, column)) for text, start in zip(texts, starts, strict=True)]
    return [(text, start) for text, start in found if text.strip()]


def spans_in(row: dict[str, Any], column: str, length: int) -> list[tuple[int, int, str]] | None:
    """Return the marked spans of a column, sorted: first character, the character after the last, label.

    They are a list of objects with `start`, `end` and `label`, or of lists [start, end, label].

    Returns:
        The spans; empty: there are none; None: the column has no value.

    Raises:
        ValueError: the column holds something else, a span that is not within the text's `length`, or two that overlap.
    """
    several = several_in(row, column, "spans")
    if several is None:
        return None
    found = []
    for one in several:
        values = [one.get(key) for key in ("start", "end", "label")] if isinstance(one, dict) else one
        if not isinstance(values, list) or len(values) != 3 or None in values:
            raise ValueError(f"column {column!r}: expected spans {{start, end, label}} or [start, end, label], got "
                             f"{one!r:.60}")  # fmt: skip
        start, end = (_character(value, column, name) for value, name in zip(values, ("start", "end"), strict=False))
        if not 0 <= start < end <= length:
            raise ValueError(
                f"column {column!r}: the span {start} to {end} is not within a text of {length} characters"
            )
        if not (label := written(values[2], column).strip()):
            raise ValueError(f"column {column!r}: the span {start} to {end} has no label")
        found.append((start, end, label))
    found.sort()
    for (_, end, one), (start, _, other) in pairwise(found):
        if start < end:
            raise ValueError(f"column {column!r}: spans of {one} and {other} overlap at character {start}; a character "
                             "can be told one label, so leave one of the two out")  # fmt: skip
    return found


def _start(value: Any, column: str) -> int:
    """Return where an answer begins."""
    return _character(value, column, "answer_start")


def _character(value: Any, column: str, name: str) -> int:
    """Return a number of characters."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not float(value).is_integer():
        raise ValueError(f"column {column!r}: {name} {value!r:.40} is no number of characters")
    return int(value)


def written(value: Any, column: str) -> str:
    """Return a value as text; 1 and 1.0 are the same, None and NaN are an empty text.

    Raises:
        ValueError: the value is none that a text can stand for.
    """
    if value is TWICE:
        raise ValueError(_twice(column))
    if value is None or _is_nan(value):
        return ""
    if isinstance(value, (list, tuple, dict, set)):
        kind = "an object" if isinstance(value, dict) else "a list"
        raise ValueError(f"column {column!r} holds {kind}, not one text or number: {value!r:.40}; name another column")
    if isinstance(value, float) and math.isinf(value):
        raise ValueError(f"column {column!r} holds {value}, which is neither a text nor a finite number")
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _is_nan(value: Any) -> bool:
    """Return whether a value is NaN or a missing date: what does not equal itself."""
    return bool(value != value)


def _twice(column: str) -> str:
    return f"column {column!r} stands there twice; rename one of the two"

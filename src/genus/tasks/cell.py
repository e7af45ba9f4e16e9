"""Cells of a table: which hold a text or a label, which are empty, and which hold something else."""

from __future__ import annotations

import math
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


def _start(value: Any, column: str) -> int:
    """Return where an answer begins."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not float(value).is_integer():
        raise ValueError(f"column {column!r}: answer_start {value!r:.40} is no number of characters")
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

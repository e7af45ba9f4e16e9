"""Words as a reader sees them, and the sums over their pieces."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genus.analysis.words import spans_of, summed


@pytest.mark.parametrize(
    ("text", "starts", "expected"),
    [
        ("a cat, sat", [0, 2, 5, 7], ["a", "cat,", "sat"]),
        ("  lead\n\ttail ", [2, 4, 9], ["lead", "tail"]),
        ("สวัสดีครับ", [0, 6], ["สวัสดี", "ครับ"]),
        ("น้ำดี", [0, 1, 2, 3], ["น้ำ"[:2], "ำ", "ดี"]),
        ("私はABC", [0, 1, 2, 3], ["私", "は", "ABC"]),
        ("مرحبا بالعالم", [0, 2, 6, 8], ["مرحبا", "بالعالم"]),
        ("", [], []),
        ("   ", [0], []),
    ],
)
def test_words(text: str, starts: list[int], expected: list[str]) -> None:
    assert [text[slice(*span)] for span in spans_of(text, starts)] == expected


@given(st.text(alphabet=st.sampled_from("ab ก็น้ำ私\n مر\u0301"), max_size=30), st.lists(st.integers(-3, 40)))
def test_words_cover_all_but_white_space_and_part_no_mark(text: str, starts: list[int]) -> None:
    spans = spans_of(text, starts)
    assert "".join(text[slice(*span)] for span in spans) == "".join(text.split())
    assert all(start < end for start, end in spans)
    inner = {start for start, _ in spans if start and not text[start - 1].isspace()}
    assert not any(unicodedata.category(text[start]).startswith("M") for start in inner)


def test_sums() -> None:
    spans = [(0, 3), (4, 7), (8, 11)]
    pieces = [(0, 2, 1.0), (2, 3, 0.5), (3, 7, 2.0), (11, 11, 4.0)]
    assert summed(spans, pieces) == [(0, 3, 1.5), (4, 7, 2.0), (8, 11, 4.0)]
    assert summed(spans, []) == [(0, 3, None), (4, 7, None), (8, 11, None)]
    assert summed([], [(0, 0, 1.0)]) == []

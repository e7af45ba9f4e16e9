"""Words and marks: what is a word, and that nothing of a text is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genus.text.segment import WordsAndMarks


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('He said, "Stop!"', ["He", "said", ",", '"', "Stop", "!", '"']),
        ("It's what they don't have...", ["It", "'s", "what", "they", "do", "n't", "have", "..."]),
        ("the U.S. has 8,953 of 1844\u201396", ["the", "U.S.", "has", "8,953", "of", "1844\u201396"]),
        ("l'homme (well-known)", ["l'homme", "(", "well", "-", "known", ")"]),
    ],
)
def test_marks_are_words(text: str, words: list[str]) -> None:
    assert [word for word in WordsAndMarks().words(text) if not word.isspace()] == words


@given(st.text())
def test_nothing_is_lost(text: str) -> None:
    assert "".join(WordsAndMarks().words(text)) == text

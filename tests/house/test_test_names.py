"""Test modules have names of their own: pytest imports them all side by side."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def test_no_two_modules_share_a_name() -> None:
    names = Counter(path.stem for path in TESTS.rglob("*.py") if path.stem != "conftest")
    assert [name for name, number in names.items() if number > 1] == []

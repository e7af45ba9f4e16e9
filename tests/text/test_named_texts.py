"""Texts with names and weights, as arguments of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from genus.errors import UsageError
from genus.text.named import NamedText, is_named, named_texts

if TYPE_CHECKING:
    from pathlib import Path


def test_names_and_weights() -> None:
    found = named_texts(["wiki=a.jsonl:0.7", "books=org/name:config", "web=s3://bucket/text:2", "wiki=b.jsonl"])
    assert found == [
        NamedText("wiki", ("a.jsonl", "b.jsonl"), 0.7),
        NamedText("books", ("org/name:config",)),
        NamedText("web", ("s3://bucket/text",), 2.0),
    ]
    assert named_texts(["a.jsonl", "b.jsonl"]) == []


def test_a_path_with_signs_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("year=2020", "a:5"):
        (tmp_path / name).write_text("text")
    assert not is_named("year=2020")
    assert named_texts(["one=a:5", "two=a:5:3"]) == [NamedText("one", ("a:5",)), NamedText("two", ("a:5",), 3.0)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one=a", "b"], "b: has no name, and other texts have"),
        (["one=a:1", "one=b:2"], "one: has two weights, 1 and 2"),
        (["one=a:0"], "the weight 0 is no number above 0"),
        (["one=a:nan"], "the weight nan is no number above 0"),
        (["one=a:-1"], "the weight -1 is no number above 0"),
    ],
)
def test_what_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        named_texts(arguments)

"""A change of the text is noticed, and a mere copy is not a change."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from genus.text.sources import changed, find, fingerprints

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"text of {name}", encoding="utf-8")
    return tmp_path


def test_fingerprint(corpus: Path) -> None:
    first, second = fingerprints(find([corpus]), 2)
    assert (first["name"], first["size"], second["name"]) == ("a.txt", 13, "b.txt")
    assert first["sha256"] == hashlib.sha256(b"text of a.txt").hexdigest()


def test_the_same_text_is_the_same(corpus: Path) -> None:
    known = fingerprints(find([corpus]), 1)
    assert changed(known, find([corpus])) is None
    os.utime(corpus / "a.txt", (1, 1))
    assert changed(known, find([corpus])) is None


def test_an_edit_is_noticed(corpus: Path) -> None:
    known = fingerprints(find([corpus]), 1)
    (corpus / "b.txt").write_text("TEXT of b.txt", encoding="utf-8")
    os.utime(corpus / "b.txt", (1, 1))
    assert changed(known, find([corpus])) == f"made before {corpus / 'b.txt'} changed"


def test_another_file_is_noticed(corpus: Path) -> None:
    known = fingerprints(find([corpus]), 1)
    (corpus / "c.txt").write_text("more", encoding="utf-8")
    assert changed(known, find([corpus])) == "made from a.txt, b.txt, not from a.txt, b.txt, c.txt"

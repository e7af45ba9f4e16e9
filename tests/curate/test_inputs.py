"""Pages, archives and exports become text with its identity; bad ones are one line, and nothing is lost."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest

import curated
from genus.curate import Curation, TextStep
from genus.curate.duplicates import ExactDuplicates
from genus.curate.presets import load
from genus.curate.repair import HtmlText
from genus.errors import GenusError, UsageError
from genus.text import read as text_read
from genus.text import wiki
from genus.text.sources import CURATION

if TYPE_CHECKING:
    from pathlib import Path

PAGES = Curation(steps=(HtmlText(), ExactDuplicates()))


def html(draw: random.Random, number: int) -> str:
    body = "".join(f"<p>{curated.page(draw)}</p>" for _ in range(3))
    link = f'<link rel="canonical" href="https://e.org/{number}">'
    return f"<html><head>{link}</head><body><nav><a>Menu</a></nav><article>{body}</article></body></html>"


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """A folder of pages, of which two are the same."""
    pytest.importorskip("trafilatura")
    draw, folder = random.Random(0), tmp_path / "pages"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.html").write_text(html(draw, number))
    (folder / "9.html").write_text((folder / "0.html").read_text().replace("e.org/0", "e.org/9"))
    return folder


def test_pages_become_text(tmp_path: Path, pages: Path) -> None:
    report = curated.clean(PAGES, [pages], tmp_path / "out")
    found = curated.read(tmp_path / "out")
    identity = [(one["source"], one["row"], one["id"], one["url"]) for one in found]
    assert identity == [(str(pages), n + 1, f"{n}.html", f"https://e.org/{n}") for n in range(6)]
    assert all(one["text"].count("\n") == 2 and "Menu" not in one["text"] and "<" not in one["text"] for one in found)
    assert report["removed"]["1 ExactDuplicates"]["copy"]["documents"] == 1
    assert list(report["sources"]) == [str(pages)]
    curated.clean(PAGES, [pages], tmp_path / "two", workers=2)
    assert curated.files(tmp_path / "out") == curated.files(tmp_path / "two")


def test_markup_is_refused_where_no_step_takes_the_text_out(tmp_path: Path, pages: Path) -> None:
    with pytest.raises(UsageError, match=r"0.html: is in HTML, .* add HtmlText to the steps, or take --preset pages"):
        curated.clean(Curation(steps=(ExactDuplicates(),)), [pages], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_markup_beside_text_is_left_out_and_said(
    tmp_path: Path, pages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    choice = Curation(steps=(ExactDuplicates(),))
    curated.write(pages / "a.jsonl", [{"text": "One."}])
    report = curated.clean(choice, [pages], tmp_path / "out")
    assert report["read"]["documents"] == 1
    assert "0.html: not read, nor 6 more; no step takes text out of HTML" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"1.html: is in HTML"):
        curated.clean(choice, [pages / "a.jsonl", pages / "1.html"], tmp_path / "other")


def test_an_export_becomes_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mwparserfromhell")
    monkeypatch.setattr(wiki, "BLOCK_BYTES", 1_000)
    draw = random.Random(1)
    articles = [(f"A{n}", f"'''A{n}''' {curated.page(draw)} {{{{t}}}} [[B|{curated.page(draw, 2)}]]") for n in range(3)]
    parts = [
        f"<page><title>{title}</title><ns>0</ns><id>{n}</id><revision><timestamp>t</timestamp><text>{text}</text>"
        "</revision></page>"
        for n, (title, text) in enumerate(articles)
    ]
    (tmp_path / "w.xml").write_text(f"<mediawiki>{''.join(parts)}</mediawiki>")
    curated.clean(load("wiki"), [tmp_path / "w.xml"], tmp_path / "out")
    found = curated.read(tmp_path / "out")
    assert [(one["row"], one["title"], one["id"], one["date"]) for one in found] == [
        (n + 1, f"A{n}", str(n), "t") for n in range(3)
    ]
    assert all(one["text"].startswith(one["title"]) and "[" not in one["text"] for one in found)


def test_a_page_of_50_megabytes_on_one_line(tmp_path: Path, pages: Path) -> None:
    """It is removed by a rule, with its place; all others are there."""
    (pages / "5.html").write_bytes(b"<html><body><p>" + b"word " * 10_000_000 + b"</p></body></html>")
    report = curated.clean(PAGES, [pages], tmp_path / "out")
    assert [one["id"] for one in curated.read(tmp_path / "out")] == [f"{n}.html" for n in range(5)]
    gone = report["removed"]["0 HtmlText"]["too_long"]
    assert gone["documents"] == 1
    assert (gone["samples"][0]["source"], gone["samples"][0]["row"]) == (str(pages), 6)
    assert report["text"] == {"cut": 1}


def test_a_long_text_is_no_page() -> None:
    step = HtmlText(longest=10)
    assert step.apply("0123456789").document is None
    for text in ("0123456789a", "\u0e01\u0e02\u0e03\u0e04"):
        removed = step.apply(text).document
        assert removed is not None
        assert removed.rule == "too_long"


@pytest.mark.parametrize("preset", ["pages", "wiki", "fineweb"])
def test_presets_read_markup(preset: str) -> None:
    assert [step.markup for step in load(preset).steps if step.markup] == ["wikitext" if preset == "wiki" else "HTML"]


class Touching(TextStep):
    """A step beside which a file changes."""

    path: str

    def apply(self, text: str) -> Any:
        from pathlib import Path

        from genus.curate import Outcome

        path = Path(self.path)
        path.write_text(path.read_text() + "\n")
        os.utime(path, ns=(1, 1))
        return Outcome(text)


def test_a_file_that_changes_while_it_is_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_read, "BLOCK_BYTES", 100)
    texts = curated.corpus(tmp_path / "text", 10)
    choice = Curation(steps=(Touching(path=str(texts[1])),))
    with pytest.raises(GenusError, match=r"out: was made before .*two.jsonl changed; delete it, and run again"):
        curated.clean(choice, texts, tmp_path / "out")
    assert not (tmp_path / "out" / CURATION).exists()
    with pytest.raises(UsageError, match=r"two.jsonl changed; delete it, or take another folder"):
        curated.clean(choice, texts, tmp_path / "out")

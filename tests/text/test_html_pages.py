"""Files of HTML: their identity, what they say of themselves, and bad ones."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from genus.errors import GenusError, UsageError
from genus.text import TEXT, html_pages, read_documents
from genus.text.html_pages import told
from genus.text.read import read_blocks
from genus.text.sources import find, skipped

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """<html><head><title>T</title>
<link rel="stylesheet" href="style.css">
<LINK rel='Canonical nofollow' href=' https://e.org/a?b=1&amp;c=2 '/>
<meta property="og:url" content="https://e.org/other">
<meta name="DC.Date" content="2019-05-05"><meta property="article:published_time" content="2020-01-02T03:04:05Z">
</head><body><a href="https://e.org/no">x</a>"""


def test_a_page_says_its_address_and_date() -> None:
    assert told(HEAD) == {"url": "https://e.org/a?b=1&c=2", "date": "2020-01-02T03:04:05Z"}
    assert told('<meta property="og:url" content="u"><meta name="date" content="">') == {"url": "u"}
    assert told("no page at all < > &") == {}


def test_another_library_finds_the_same() -> None:
    trafilatura = pytest.importorskip("trafilatura")
    page = f"{HEAD}<p>Words.</p></body></html>".replace("Canonical nofollow", "canonical").replace("2 '", "2'")
    assert trafilatura.extract_metadata(page.replace("og:url", "og:image")).url == told(page)["url"]
    assert str(told(page)["date"]).startswith(trafilatura.extract_metadata(page.replace("DC.Date", "x")).date)


def test_pages_are_known_by_folder_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html_pages, "BLOCK_BYTES", 40)
    for name in ("a/1.html", "a/2.htm", "a/3.HTML", "b/4.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"<p>page {name}</p>" + " " * 20)
    (tmp_path / "b" / "5.html.gz").write_bytes(gzip.compress(b"<p>page b/5</p>"))
    (tmp_path / "b" / "6.html").write_text("  ")
    (tmp_path / "b" / "text.txt").write_text("plain")
    blocks = [*read_blocks(find([tmp_path], raw=True), TEXT)]
    rows = []
    for block in blocks:
        found = block.documents()
        for text, row, kept in zip(found.texts, found.rows, found.kept, strict=True):
            rows.append((block.source, row, kept.get("id"), text))
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert rows == [
        (a, 1, "1.html", "<p>page a/1.html</p>"),
        (a, 2, "2.htm", "<p>page a/2.htm</p>"),
        (a, 3, "3.HTML", "<p>page a/3.HTML</p>"),
        (b, 1, "4.html", "<p>page b/4.html</p>"),
        (b, 2, "5.html.gz", "<p>page b/5</p>"),
        (str(tmp_path / "b" / "text.txt"), 1, None, "plain"),
    ]
    assert sum(block.documents().empty for block in blocks) == 1
    sizes = [block.position for block in blocks]
    assert sizes == sorted(sizes)
    assert sizes[-1] == sum(path.stat().st_size for path in tmp_path.rglob("*.*"))


def test_only_curation_takes_pages(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>x</p>")
    with pytest.raises(UsageError, match=r"a.html: is no text yet; take it out with `genus clean a.html --out FOLDER`"):
        read_documents([tmp_path / "a.html"]).__next__()
    assert "a.html: not read (1 in all)" in skipped([tmp_path])
    assert skipped([tmp_path], raw=True) == ""
    with pytest.raises(GenusError, match=r"there is no .txt, .jsonl, .parquet file"):
        find([tmp_path])


def test_a_page_that_is_too_long_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html_pages, "LONGEST_DOCUMENT", 10)
    (tmp_path / "a.html").write_text("0123456789")
    (tmp_path / "b.html").write_text("0123456789abc")
    (block,) = read_blocks(find([tmp_path], raw=True), TEXT)
    found = block.documents()
    assert (found.texts, found.cut) == (["0123456789"] * 2, 1)


def test_a_page_cut_short_is_one_line(tmp_path: Path) -> None:
    whole = gzip.compress(b"<p>page</p>" * 100)
    (tmp_path / "a.html.gz").write_bytes(whole[:-10])
    with pytest.raises(GenusError, match=r"a.html.gz: cannot be read to its end .*cut short or damaged"):
        [*read_blocks(find([tmp_path], raw=True), TEXT)]

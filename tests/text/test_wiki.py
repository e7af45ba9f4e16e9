"""Exports of MediaWiki, against another reader of them; bad ones."""

from __future__ import annotations

import bz2
from typing import TYPE_CHECKING, Any

import pytest

from genus.errors import GenusError
from genus.text import TEXT, wiki
from genus.text.read import read_blocks
from genus.text.sources import find

if TYPE_CHECKING:
    from pathlib import Path

MEDIA, FILE = "\u0e2a\u0e37\u0e48\u0e2d", "\u0e44\u0e1f\u0e25\u0e4c"
CATEGORY = "\u0e2b\u0e21\u0e27\u0e14\u0e2b\u0e21\u0e39\u0e48"
SITE = f"""<siteinfo><sitename>W</sitename><dbname>thwiki</dbname><base>https://th.example.org/wiki/First_page</base>
<generator>MediaWiki</generator><case>first-letter</case><namespaces>
<namespace key="-2" case="first-letter">{MEDIA}</namespace>
<namespace key="0" case="first-letter" />
<namespace key="6" case="first-letter">{FILE}</namespace>
<namespace key="14" case="first-letter">{CATEGORY}</namespace>
</namespaces></siteinfo>"""
PAGES: list[tuple[str, str, str, str]] = [
    ("Stone & sea", "0", "", f"A '''stone''' in the [[sea]]. [[{FILE}:x.jpg|thumb|a &lt;b&gt;]]"),
    ("Stones", "0", '<redirect title="Stone" />', "#REDIRECT [[Stone]]"),
    ("Talk:Stone", "1", "", "So it is."),
    ("What/is \u0e44?", "0", "", f"It is. [[ {CATEGORY} : Y]] [[:File:z]]"),
    ("Empty", "0", "", ""),
]


def export(path: Path, pages: list[tuple[str, str, str, str]] = PAGES, site: str = SITE) -> Path:
    """Write an export, as the schema has it."""
    parts = [f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="th">{site}']
    for number, (title, space, redirect, text) in enumerate(pages, 1):
        title = title.replace("&", "&amp;")
        revisions = "".join(
            f"<revision><id>{number}{turn}</id><timestamp>202{turn}-01-02T03:04:05Z</timestamp>"
            f"<contributor><username>u</username><id>1</id></contributor><model>wikitext</model>"
            f'<format>text/x-wiki</format><text bytes="1" xml:space="preserve">{body}</text><sha1>x</sha1></revision>'
            for turn, body in ((0, "old"), (1, text))
        )
        parts.append(f"<page><title>{title}</title><ns>{space}</ns><id>{number}7</id>{redirect}{revisions}</page>")
    data = ("\n".join(parts) + "\n</mediawiki>\n").encode()
    path.write_bytes(bz2.compress(data) if path.suffix == ".bz2" else data)
    return path


def documents(path: Path) -> list[tuple[int, str, dict[str, Any]]]:
    blocks = [block.documents() for block in read_blocks(find([path], raw=True), TEXT)]
    return [row for block in blocks for row in zip(block.rows, block.texts, block.kept, strict=True)]


@pytest.mark.parametrize("name", ["w.xml.bz2", "w.xml"])
def test_articles(tmp_path: Path, name: str) -> None:
    first, second = documents(export(tmp_path / name))
    assert first[:2] == (1, "A '''stone''' in the [[sea]]. [[File:x.jpg|thumb|a <b>]]")
    assert second[:2] == (4, "It is. [[Category: Y]] [[:File:z]]")
    assert first[2] == {
        "id": "17",
        "title": "Stone & sea",
        "date": "2021-01-02T03:04:05Z",
        "url": "https://th.example.org/wiki/Stone_%26_sea",
    }
    assert second[2]["url"] == "https://th.example.org/wiki/What/is_%E0%B9%84%3F"


def test_another_reader_finds_the_same(tmp_path: Path) -> None:
    mwxml = pytest.importorskip("mwxml")
    path = export(tmp_path / "w.xml")
    theirs = []
    with path.open("rb") as file:
        for page in mwxml.Dump.from_file(file):
            *_, last = page
            if page.namespace == 0 and page.redirect is None and last.text:
                theirs.append((str(page.id), page.title, last.timestamp.long_format()))
    assert [(one["id"], one["title"], one["date"]) for _, _, one in documents(path)] == theirs


def test_blocks_and_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiki, "BLOCK_BYTES", 300)
    path = export(tmp_path / "w.xml.bz2", PAGES[:4] * 40)
    blocks = [*read_blocks(find([path], raw=True), TEXT)]
    assert len(blocks) > 5
    assert [row for block in blocks for row in block.documents().rows] == [
        4 * turn + row for turn in range(40) for row in (1, 4)
    ]
    assert blocks[2].first == blocks[2].documents().rows[0]


def test_a_long_article_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiki, "LONGEST_DOCUMENT", 10)
    path = export(tmp_path / "w.xml", [("A", "0", "", "0123456789abc"), ("B", "0", "", "short")])
    (block,) = read_blocks(find([path], raw=True), TEXT)
    assert (block.documents().texts, block.documents().cut) == (["0123456789", "short"], 1)


@pytest.mark.parametrize("name", ["w.xml.bz2", "w.xml"])
@pytest.mark.parametrize("cut", [5, 100, 700])
def test_an_export_cut_short_is_one_line(tmp_path: Path, name: str, cut: int) -> None:
    path = export(tmp_path / name, PAGES * 3)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(GenusError, match=r"w.xml(.bz2)?: (cannot be read|is no XML) to its end .*cut short or damaged"):
        documents(path)


def test_other_xml_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "w.xml").write_text("<rss><page/></rss>")
    with pytest.raises(GenusError, match=r"w.xml: is no export of MediaWiki; its XML begins with <rss>"):
        documents(tmp_path / "w.xml")
    (tmp_path / "w.xml").write_text("")
    with pytest.raises(GenusError, match=r"w.xml: is no XML to its end"):
        documents(tmp_path / "w.xml")


def test_entities_do_not_multiply(tmp_path: Path) -> None:
    """The "billion laughs": the parser refuses them."""
    levels = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE m [<!ENTITY l0 "lol">{levels}]><mediawiki><page><title>&l11;</title></page></mediawiki>'
    (tmp_path / "w.xml").write_text(bomb)
    with pytest.raises(GenusError, match=r"w.xml: is no XML to its end"):
        documents(tmp_path / "w.xml")


def test_an_export_without_a_site(tmp_path: Path) -> None:
    (found,) = documents(export(tmp_path / "w.xml", [PAGES[0]], ""))
    assert "url" not in found[2]

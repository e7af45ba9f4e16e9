"""Archives of a crawl, written by another library."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING, Any

import pytest

from genus.errors import GenusError
from genus.text import TEXT, archives
from genus.text.read import read_blocks
from genus.text.sources import find

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("fastwarc")
writing = pytest.importorskip("warcio.warcwriter")
http = pytest.importorskip("warcio.statusandheaders")
DATE = "2020-01-02T03:04:05Z"
THAI = "\u0e44\u0e17\u0e22"


def archive(path: Path, records: list[dict[str, Any]], packed: bool = True) -> Path:
    """Write records: type, body, HTTP's status and headers."""
    out = io.BytesIO()
    writer = writing.WARCWriter(out, gzip=packed)
    for number, one in enumerate(records):
        kind, headers = one.get("kind", "response"), [("Content-Type", one.get("type", "text/html"))]
        answered = http.StatusAndHeaders(one.get("status", "200 OK"), headers + one.get("headers", []), "HTTP/1.1")
        writer.write_record(
            writer.create_warc_record(
                f"https://e.org/{number}",
                kind,
                payload=io.BytesIO(one["body"]),
                length=len(one["body"]),
                http_headers=answered if kind == "response" else None,
                warc_content_type="" if kind == "response" else one["type"],
                warc_headers_dict={"WARC-Date": DATE, "WARC-Record-ID": f"<urn:uuid:{number}>"},
            )
        )
    path.write_bytes(out.getvalue())
    return path


def chunked(body: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:5], body[5:], b""))


RECORDS: list[dict[str, Any]] = [
    {"kind": "warcinfo", "body": b"software: x\r\n", "type": "application/warc-fields"},
    {"body": b"<p>one</p>"},
    {"body": b"", "status": "301 Moved Permanently"},
    {"body": b"\x89PNG", "type": "image/png"},
    {"body": f"<p>{THAI}</p>".encode("tis-620"), "type": "text/html; charset=tis-620"},
    {"body": gzip.compress(b"<p>packed</p>"), "headers": [("Content-Encoding", "gzip")]},
    {"body": chunked(b"<p>in chunks</p>"), "headers": [("Transfer-Encoding", "chunked")]},
    {"body": b"<p>lost</p>", "status": "404 Not Found"},
    {"body": b"plain", "type": "text/plain; charset=utf-8"},
    {"kind": "conversion", "body": THAI.encode(), "type": "text/plain"},
    {"kind": "metadata", "body": b"a: b", "type": "application/warc-fields"},
    {"kind": "resource", "body": b"<p>kept</p>", "type": "text/html"},
]
READ = [
    (2, "<p>one</p>"),
    (5, f"<p>{THAI}</p>"),
    (6, "<p>packed</p>"),
    (7, "<p>in chunks</p>"),
    (9, "plain"),
    (10, THAI),
    (12, "<p>kept</p>"),
]


def rows(path: Path) -> list[tuple[int, str]]:
    blocks = [block.documents() for block in read_blocks(find([path], raw=True), TEXT)]
    return [row for block in blocks for row in zip(block.rows, block.texts, strict=True)]


@pytest.mark.parametrize("packed", [True, False])
def test_pages_of_an_archive(tmp_path: Path, packed: bool) -> None:
    path = archive(tmp_path / ("a.warc.gz" if packed else "a.warc"), RECORDS, packed)
    assert rows(path) == READ
    (block,) = read_blocks(find([path], raw=True), TEXT)
    found = block.documents()
    assert block.source == str(path)
    assert found.kept[0] == {"id": "<urn:uuid:1>", "url": "https://e.org/1", "date": DATE}
    assert block.position == path.stat().st_size


def test_an_archive_of_many_members_and_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "BLOCK_BYTES", 100)
    path = archive(tmp_path / "a.warc.gz", RECORDS * 30)
    blocks = [*read_blocks(find([path], raw=True), TEXT)]
    assert len(blocks) > 10
    found = [row for block in blocks for row in block.documents().rows]
    assert found == [row + 12 * turn for turn in range(30) for row, _ in READ]
    assert blocks[3].first == blocks[3].documents().rows[0]


@pytest.mark.parametrize("cut", [1, 20, 100, 300])
@pytest.mark.parametrize("packed", [True, False])
def test_an_archive_cut_short_is_one_line(tmp_path: Path, packed: bool, cut: int) -> None:
    path = archive(tmp_path / ("a.warc.gz" if packed else "a.warc"), RECORDS, packed)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(GenusError, match=r"a.warc(.gz)?: cannot be read to its end .*cut short or damaged"):
        rows(path)


def test_what_is_no_archive_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_text("nothing of the kind\n" * 20)
    with pytest.raises(GenusError, match=r"a.warc: cannot be read to its end"):
        rows(tmp_path / "a.warc")


def test_a_page_that_is_too_long_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LONGEST_DOCUMENT", 10)
    path = archive(tmp_path / "a.warc.gz", [{"body": b"0123456789"}, {"body": b"0123456789abc"}, {"body": b"end"}])
    (block,) = read_blocks(find([path], raw=True), TEXT)
    found = block.documents()
    assert (found.texts, found.cut) == (["0123456789", "0123456789", "end"], 1)

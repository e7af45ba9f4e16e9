"""Odd corpora are read, or refused in one line; what is left out, cut or replaced is counted."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import tracemalloc
from typing import TYPE_CHECKING

import pyarrow
import pytest
from pyarrow import parquet

from genus.errors import GenusError, UsageError
from genus.text import Fields, find, fingerprint, read_blocks, read_documents
from genus.text.sources import changed, skipped

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "\n\n".join(f"Document {number} has this. And it has that." for number in range(50))
PACKED = gzip.compress(random.Random(0).randbytes(3_000).hex().encode() + b"\n\n" + TEXT.encode())


def table(texts: object) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": texts}), file)
    return file.getvalue()


REFUSED: dict[str, tuple[str, bytes, str]] = {
    "UTF-16": ("a.txt", TEXT.encode("utf-16"), "is UTF-16"),
    "UTF-32": ("a.txt", TEXT.encode("utf-32"), "is UTF-16"),
    "a NUL byte first": ("a.txt", b"\0" + TEXT.encode(), "is UTF-16, or no text"),
    "carriage returns alone": ("a.txt", TEXT.replace("\n", "\r").encode(), "carriage return alone"),
    "gz cut short": ("a.txt.gz", PACKED[:-20], "cannot be read to its end"),
    "gz damaged": ("a.txt.gz", PACKED[:500] + b"\xff" * 40 + PACKED[540:], "cannot be read to its end"),
    "gz in name only": ("a.TXT.GZ", TEXT.encode(), "cannot be read to its end"),
    "an empty Parquet file": ("a.parquet", b"", "cannot be read as Parquet"),
    "a Parquet file of lists": ("a.parquet", table([["a"], ["b"]]), "is not text"),
    "a Parquet file of numbers": ("a.parquet", table([1, 2]), "is not text"),
    "a list of lines": ("a.jsonl", b'["a"]', "expected a JSON object"),
    "one JSON document": ("a.jsonl", json.dumps([{"text": "a"}], indent=1).encode(), "not a line of JSON"),
    "JSON nested too deeply": ("a.jsonl", b'{"text": ' + b"[" * 100_000, "nested too deeply"),
    "JSON nested deeply": ("a.jsonl", b'{"text": ' + b"[" * 500 + b"]" * 500 + b"}", "is not text"),
    "a number of many digits": ("a.jsonl", b'{"text": ' + b"9" * 10_000 + b"}", "not a line of JSON"),
    "an infinite number": ("a.jsonl", b'{"text": 1e999}', "is not text but 'inf'"),
    "no number": ("a.jsonl", b'{"text": NaN}', "is not text but 'nan'"),
    "a missing field": ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}', "line 2: there is no field 'text'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    name, content, message = REFUSED[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GenusError, match=message) as caught:
        list(read_documents([tmp_path]))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "documents"),
    [
        (b"", 0),
        (b"\n \n\n", 0),
        (TEXT.encode("utf-8-sig"), 50),
        (TEXT.replace("\n", "\r\n").encode(), 50),
        (TEXT.replace("this", "th\0is\x07").encode(), 50),
        (TEXT.encode() + b"\xff\x80", 50),
        ("\n\n".join(["the same text"] * 9).encode(), 9),
    ],
)
def test_odd_text_is_read(tmp_path: Path, content: bytes, documents: int) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    assert len(list(read_documents([tmp_path]))) == documents


def test_extensions_in_capitals_are_read_and_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "A.TXT").write_text("one")
    (tmp_path / "b.Jsonl.GZ").write_bytes(gzip.compress(b'{"text": "two"}'))
    assert list(read_documents([tmp_path])) == ["one", "two"]
    assert skipped([tmp_path]) == ""
    (tmp_path / "c.md").write_text("three")
    (tmp_path / "linked").symlink_to(tmp_path)
    (tmp_path / "d.txt").symlink_to(tmp_path / "d.txt")
    os.mkfifo(tmp_path / "e.txt")
    (tmp_path / "f.txt").mkdir()
    (tmp_path / "f.txt" / "g.txt").write_text("four")
    (tmp_path / ".notes").write_text("no text")
    assert list(read_documents([tmp_path])) == ["one", "two", "four"]
    line = skipped([tmp_path])
    assert "(4 in all)" in line
    assert "c.md" in line
    assert "d.txt" in line


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        find([tmp_path / "a.txt"])


def test_a_name_that_is_no_utf_8_can_be_written_down(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.txt"
    with open(path, "wb") as file:
        file.write(b"text")
    [source] = find([tmp_path])
    known = fingerprint(source)
    assert known["name"].encode() == b"\\xff.txt"
    assert changed([known], [source]) is None


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("line", [b"a" * (1 << 22), "\u4e2d".encode() * (1 << 20)], ids=["letters", "chinese"])
def test_a_line_without_end_is_cut_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: bytes, packed: bool
) -> None:
    monkeypatch.setattr("genus.text.read.BLOCK_BYTES", 1 << 10)
    monkeypatch.setattr("genus.text.read.LONGEST_DOCUMENT", 1 << 20)
    file = tmp_path / ("a.txt.gz" if packed else "a.txt")
    file.write_bytes(gzip.compress(line) if packed else line)
    tracemalloc.start()
    found, most = [], 0
    for block in read_blocks([file], Fields()):
        documents = block.documents()
        found.append(documents)
        most = max(most, *map(len, documents.texts))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "".join(text for documents in found for text in documents.texts).encode() == line
    assert sum(documents.replaced for documents in found) == 0
    assert sum(documents.cut for documents in found) == len(found) - 1 > 1
    assert most <= (1 << 20) + (1 << 10)
    assert peak < len(line) + (8 << 20)


def test_a_paragraph_without_end_is_cut_at_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genus.text.read.BLOCK_BYTES", 100)
    monkeypatch.setattr("genus.text.read.LONGEST_DOCUMENT", 1_000)
    (tmp_path / "a.txt").write_text("first\n\n" + "a line of words\n" * 500)
    blocks = [block.documents() for block in read_blocks([tmp_path / "a.txt"], Fields())]
    assert sum(len(text) for block in blocks for text in block.texts) > 15 * 500
    assert sum(block.cut for block in blocks) > 3


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_a_text_too_long_is_refused_where_it_cannot_be_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("genus.text.read.BLOCK_BYTES", 100)
    monkeypatch.setattr("genus.text.read.LONGEST_DOCUMENT", 1 << 20)
    text = "word " * (1 << 18)
    line = b'{"text": "a"}\n' + json.dumps({"text": text}).encode()
    packed = gzip.compress(line) if name.endswith(".gz") else line
    (tmp_path / name).write_bytes(table(["a", text]) if name.endswith("parquet") else packed)
    with pytest.raises(GenusError, match=r"longer than 1 MB; make it several"):
        list(read_documents([tmp_path / name]))

"""Tables of every kind give the same rows; a broken one gives one line."""

import csv
import gzip
import json
import lzma
from pathlib import Path

import pytest

from genus.errors import GenusError, UsageError
from genus.tasks.table import rows

TEXTS = ('a "quoted", line\nbroken', "ไทย", "")
ROWS = [{"text": text, "label": "yes"} for text in TEXTS]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


@pytest.mark.parametrize(("ending", "compress"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_json_lines(tmp_path: Path, ending: str, compress) -> None:
    path = tmp_path / f"train.v2.jsonl{ending}"
    path.write_bytes(compress(JSONL))
    assert list(rows(path)) == list(enumerate(ROWS, 1))


def test_zstandard(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "train.jsonl.zst"
    frames = [zstandard.compress(JSONL[:40]), zstandard.compress(JSONL[40:])]
    path.write_bytes(b"".join(frames))
    assert list(rows(path)) == list(enumerate(ROWS, 1))
    for broken in (b"".join(frames)[:-5], JSONL):
        path.write_bytes(broken)
        with pytest.raises(GenusError, match="cut short"):
            list(rows(path))


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(ROWS)
    assert [row for _, row in rows(path)] == ROWS
    assert [line for line, _ in rows(path)] == [3, 4, 5]


def test_tsv_has_no_quoting(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text('text\tlabel\nhe said "no\t1\n"yes\t0\n')
    assert list(rows(path)) == [(2, {"text": 'he said "no', "label": "1"}), (3, {"text": '"yes', "label": "0"})]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "train.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path, row_group_size=2)
    assert list(rows(path)) == list(enumerate(ROWS, 1))


def test_invalid_utf8_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(b"text,label\nna\xefve,1\n")
    assert list(rows(path)) == [(2, {"text": "na\ufffdve", "label": "1"})]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("train.jsonl", b'{"text": "a"}\n{"text": \n', "line 2: not JSON"),
        ("train.jsonl", b'["a"]\n', "line 1: expected an object"),
        ("train.csv", b"text,label\na,1\nb\n", "line 3: 1 fields under 2 columns"),
        ("train.jsonl.gz", gzip.compress(JSONL * 100, mtime=0)[:-20], "cut short"),
        ("train.jsonl.gz", JSONL, "cannot be read"),
        ("train.jsonl.gz", gzip.compress(JSONL, mtime=0)[:12] + bytes(40), "cut short"),
        ("train.jsonl.xz", lzma.compress(JSONL * 100)[:-20], "cut short"),
        ("train.parquet", b"PAR1 no table PAR1", "cannot be read"),
    ],
)
def test_broken_table_gives_one_line(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(GenusError, match=says) as caught:
        list(rows(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_unknown_files(tmp_path: Path) -> None:
    with pytest.raises(GenusError, match="no such file"):
        list(rows(tmp_path / "train.jsonl"))
    with pytest.raises(UsageError, match="not a kind of table"):
        list(rows(tmp_path / "train.docx"))

"""Documents out of files of every form, and what is said of files that are not as they should be."""

from __future__ import annotations

import gzip
import json
import lzma
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pyarrow
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from genus.errors import GenusError, UsageError
from genus.text import Fields, find, read_blocks, read_documents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TEXTS = ["First document,\nof two lines.", "Zweites: \u00e4\u00f6\u00fc \u4e2d\u6587 \U0001f600", "third"]
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
MANY = [
    f"document {number} with enough words that packing it takes a few bytes {number * number}"
    for number in range(3_000)
]


def jsonl(texts: list[Any], field: str = "text") -> bytes:
    return "".join(json.dumps({"id": 1, field: text}, ensure_ascii=False) + "\n" for text in texts).encode()


@pytest.mark.parametrize("suffix", PACK)
def test_jsonl_in_every_packing(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.jsonl{suffix}"
    file.write_bytes(PACK[suffix](jsonl(TEXTS)))
    assert list(read_documents([file])) == TEXTS


@pytest.mark.parametrize("suffix", PACK)
def test_txt_in_every_packing(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.txt{suffix}"
    file.write_bytes(PACK[suffix]("\n\n".join(TEXTS).encode()))
    assert list(read_documents([file])) == TEXTS


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_packed_parts_end_to_end(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.jsonl{suffix}"
    file.write_bytes(PACK[suffix](jsonl(TEXTS[:1])) + PACK[suffix](jsonl(TEXTS[1:])))
    assert list(read_documents([file])) == TEXTS


def test_parquet(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"id": [1, 2, 3], "body": TEXTS}), tmp_path / "a.parquet")
    assert list(read_documents([tmp_path / "a.parquet"], fields=Fields("body"))) == TEXTS


@pytest.mark.parametrize(
    ("content", "documents"),
    [
        ("one\ntwo\n\nthree\n", ["one\ntwo", "three"]),
        ("one\ntwo\nthree", ["one", "two", "three"]),
        ("one\ntwo\n\n\n", ["one", "two"]),
        ("\n\none\ntwo", ["one", "two"]),
        ("one\r\n \t\r\ntwo\r\nmore\r\n", ["one", "two\r\nmore"]),
        ("\ufeffone\n\ntwo", ["one", "two"]),
        ("  one  \n\n\n\n two\n", ["one", "two"]),
    ],
)
def test_blank_lines_separate_documents_where_there_are_any(tmp_path: Path, content: str, documents: list[str]) -> None:
    (tmp_path / "a.txt").write_bytes(content.encode())
    assert list(read_documents([tmp_path / "a.txt"])) == documents


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(st.sampled_from("ab \u00e4\u4e2d.\n"), max_size=30), max_size=12), size=st.integers(1, 40)
)
@pytest.mark.parametrize("blank", [True, False])
def test_blocks_of_any_size_hold_the_same_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blank: bool, texts: list[str], size: int
) -> None:
    texts = [" ".join(text.split()) for text in texts]
    texts = [text for text in texts if text]
    content = ("\n\n" if blank else "\n").join(texts).encode()
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "b.jsonl").write_bytes(jsonl(texts))
    monkeypatch.setattr("genus.text.read.BLOCK_BYTES", size)
    assert list(read_documents([tmp_path / "a.txt"])) == texts
    assert list(read_documents([tmp_path / "b.jsonl"])) == texts


TITLED = [{"title": " A. Title \ud800", "text": "Text."}, {"title": None, "text": "one"}, {"title": "x", "text": " "}]


def test_titles_stand_in_front(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, TITLED)))
    table = {
        name: [str(row[name]).replace("\ud800", "\ufffd") if row[name] else None for row in TITLED]
        for name in TITLED[0]
    }
    parquet.write_table(pyarrow.table(table), tmp_path / "b.parquet")
    for file, replaced in (("a.jsonl", 1), ("b.parquet", 0)):
        [block] = read_blocks(find([tmp_path / file]), Fields(title="title"))
        found = block.documents()
        assert found.texts == ["A. Title \ufffd\nText.", "one"]
        assert (found.titles, found.empty, found.replaced) == ([10, 0], 1, replaced)
    message = "a.jsonl, line 1: there is no field 'name', but 'title', 'text'; name one of them with --title"
    check_error(GenusError, message, lambda: read_documents([tmp_path / "a.jsonl"], Fields(title="name")))


def test_folders_are_read_in_order_of_path(tmp_path: Path) -> None:
    for name, text in {
        "b.txt": "3",
        "a/z.jsonl": '{"text": "1"}',
        "a.txt": "2",
        "notes.md": "x",
        ".hidden.txt": "x",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert list(read_documents([tmp_path])) == ["1", "2", "3"]


def test_what_is_replaced_and_dropped_is_counted(tmp_path: Path) -> None:
    lines = [b'{"text": "bad \xff\xfe end"}', b'{"text": "\\ud83d lone"}', b'{"text": "\\ud83d\\ude00 pair"}']
    lines += [b'{"text": "true \xef\xbf\xbd"}', b'{"text": " "}', b'{"text": null}', b""]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    [block] = read_blocks(find([tmp_path / "a.jsonl"]), Fields())
    found = block.documents()
    assert found.texts == ["bad \ufffd\ufffd end", "\ufffd lone", "\U0001f600 pair", "true \ufffd"]
    assert (found.replaced, found.empty) == (3, 2)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl"])
def test_text_in_units_of_two_bytes_is_refused(tmp_path: Path, name: str, encoding: str) -> None:
    file = tmp_path / name
    content = jsonl(TEXTS).decode() if ".jsonl" in name else "\n\n".join(TEXTS)
    file.write_bytes(PACK[".gz" if name.endswith(".gz") else ""](content.encode(encoding)))
    check_error(GenusError, f"{file}: is UTF-16, or no text; convert it to UTF-8", lambda: read_documents([file]))


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("form", [".jsonl", ".txt"])
@pytest.mark.parametrize("cut", [1, 100, 4_000])
def test_a_packed_file_cut_short(tmp_path: Path, form: str, suffix: str, cut: int) -> None:
    file = tmp_path / f"a{form}{suffix}"
    content = jsonl(MANY) if form == ".jsonl" else "\n".join(MANY).encode()
    file.write_bytes(PACK[suffix](content)[:-cut])
    check_error(GenusError, f"{file}: cannot be read to its end", lambda: read_documents([file]))


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_packed_file_that_is_none(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.txt{suffix}"
    file.write_bytes(b"this was never packed, whatever its name may say")
    check_error(GenusError, f"{file}: cannot be read to its end", lambda: read_documents([file]))


def test_parquet_cut_short(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": MANY}), file)
    file.write_bytes(file.read_bytes()[:-100])
    check_error(GenusError, f"{file}: cannot be read as Parquet", lambda: read_documents([file]))


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ('{"text": "cut he', "line 3: not a line of JSON"),
        ('["a list"]', "line 3: expected a JSON object, got"),
        ('{"txt": "x", "id": 1}', "line 3: there is no field 'text', but 'txt', 'id'; name one of them with --field"),
        ('{"text": 5}', "line 3: field 'text' is not text but '5'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, last: str, message: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a"}\n\n' + last, encoding="utf-8")
    check_error(GenusError, f"{file}, {message}", lambda: read_documents([file]))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"body": TEXTS}), tmp_path / "a.parquet")
    check_error(GenusError, "a.parquet: there is no field 'text', but 'body'", lambda: read_documents([tmp_path]))


def test_paths_that_are_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    check_error(UsageError, "nowhere.txt: there is no such file", lambda: read_documents([tmp_path / "nowhere.txt"]))
    check_error(UsageError, "a.pdf: expected .txt, .jsonl, .parquet", lambda: read_documents([tmp_path / "a.pdf"]))
    check_error(
        GenusError, "empty: there is no .txt, .jsonl, .parquet file", lambda: read_documents([tmp_path / "empty"])
    )
    check_error(GenusError, "there is no text", lambda: read_documents([]))


def test_hub_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    check_error(GenusError, "org/name: .*pip install 'genus\\[data\\]'", lambda: read_documents(["org/name"]))


def test_hub_by_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    class Table:
        column_names = ("text", "id")

        def select_columns(self, names: list[str]) -> Table:
            assert names == ["text"]
            return self

        def iter(self, size: int) -> Iterator[dict[str, list[str]]]:
            yield {"text": TEXTS[:2]}
            yield {"text": TEXTS[2:]}

    def load_dataset(name: str, config: str | None, split: str) -> Table:
        if name != "org/name":
            raise FileNotFoundError("Dataset does not exist\nand more")
        assert (config, split) == ("en", "train")
        return Table()

    library = ModuleType("datasets")
    library.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)
    assert list(read_documents(["org/name:en"])) == TEXTS
    check_error(
        GenusError, "org/other: cannot be loaded .*Dataset does not exist", lambda: read_documents(["org/other"])
    )
    check_error(
        GenusError,
        "org/name:en: there is no field 'body'",
        lambda: read_documents(["org/name:en"], fields=Fields("body")),
    )


def check_error(kind: type[GenusError], message: str, read: Callable[[], Iterator[str]]) -> None:
    """The error is of this kind, has this in its message, and is one line."""
    with pytest.raises(kind, match=message) as caught:
        list(read())
    assert "\n" not in str(caught.value)

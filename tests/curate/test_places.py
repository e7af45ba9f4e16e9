"""Text and folders anywhere that fsspec knows: the same bytes as on this machine, and errors of one line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import curated
from curated import ALL, clean, corpus, files
from genus.cli import main
from genus.curate import Curation
from genus.curate.exact_substrings import ExactSubstrings
from genus.errors import GenusError, UsageError
from genus.places import is_remote, place
from genus.text import read as text_read
from genus.text import read_documents
from genus.text.sources import CURATION

if TYPE_CHECKING:
    from collections.abc import Iterator

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("upath")
STEPS = Curation(steps=(*ALL.steps, ExactSubstrings(length=60)))


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(text_read, "BLOCK_BYTES", 1 << 14)
    return corpus(tmp_path / "text", 200)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A bucket in memory, empty afterwards."""
    found = fsspec.filesystem("memory")
    yield place("memory://bucket")
    found.rm("/bucket", recursive=True)


def uploaded(texts: list[Path], folder: Path) -> Path:
    for path in texts:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_bucket_gives_and_takes_the_same_bytes(tmp_path: Path, texts: list[Path], memory: Path) -> None:
    report = clean(STEPS, texts, tmp_path / "out")
    assert is_remote(memory)
    source = uploaded(texts, memory / "text")
    (source / "README.md").write_bytes(b"no text")
    remote = clean(STEPS, [str(source)], memory / "out")  # type: ignore[list-item]
    assert remote["kept"] == report["kept"]
    assert remote["removed"].keys() == report["removed"].keys()
    names = {path.name for path in (memory / "out").iterdir()}
    assert names == {CURATION, "text-00000.jsonl.gz"}
    here = curated.read(tmp_path / "out")
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "text-00000.jsonl.gz"
    copy.write_bytes((memory / "out" / copy.name).read_bytes())
    there = curated.read(tmp_path / "copy")
    assert [{**one, "source": Path(one["source"]).name} for one in there] == [
        {**one, "source": Path(one["source"]).name} for one in here
    ]
    assert [*read_documents([str(memory / "out")])] == [one["text"] for one in here]
    assert clean(STEPS, [str(source)], memory / "out") == remote  # type: ignore[list-item]


def test_processes_share_a_folder_by_its_url(tmp_path: Path, texts: list[Path]) -> None:
    """As on a shared disk, or in a bucket: two workers see what each writes."""
    clean(STEPS, texts, tmp_path / "here")
    url = place(f"file://{tmp_path / 'there'}")
    assert is_remote(url)
    clean(STEPS, texts, url, workers=2)
    assert files(tmp_path / "there") == files(tmp_path / "here")


def test_parquet_is_read_from_a_bucket(texts: list[Path], memory: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    here = texts[1].with_suffix(".parquet")
    parquet.write_table(pyarrow.table({"text": [*read_documents([texts[1]])]}), here)
    uploaded([here], memory)
    assert [*read_documents([str(memory / here.name)])] == [*read_documents([texts[1]])]


def test_bad_places(
    tmp_path: Path, texts: list[Path], memory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"memory://nothing/a.jsonl: there is no such file or folder"):
        clean(STEPS, ["memory://nothing/a.jsonl"], tmp_path / "out")  # type: ignore[list-item]
    with pytest.raises(UsageError, match="is seen by one process only; take --workers 1"):
        clean(STEPS, texts, memory / "out", workers=2)
    with pytest.raises(UsageError, match="holds text that is to be cleaned"):
        clean(STEPS, [str(uploaded(texts, memory / "out"))], memory / "out")  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"is not empty .one.jsonl.gz."):
        clean(STEPS, texts, memory / "out")
    with pytest.raises(GenusError, match=r"nowhere://bucket/a.jsonl: cannot be read without another library"):
        place("nowhere://bucket/a.jsonl")

    def refused(*_: object, **__: object) -> bool:
        raise PermissionError("Access Denied")

    with monkeypatch.context() as patch:
        for name in ("isdir", "info"):
            patch.setattr(fsspec.get_filesystem_class("memory"), name, refused)
        assert main(["clean", "memory://bucket/text", "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == "genus: error: memory://bucket/text: cannot be read: Access Denied\n"

"""A curation of whole corpora: identity, the same bytes with any workers and after any interruption, bad input."""

from __future__ import annotations

import errno
import gzip
import json
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import curated
from curated import ALL, clean, corpus, files, page, write
from genus.curate import Curation, shards
from genus.curate.c4 import BadWords, C4Lines, FewSentences
from genus.curate.duplicates import ExactDuplicates, RepeatedSpans, stood_before
from genus.curate.run import WORK
from genus.curate.shards import ShardKeys
from genus.errors import GenusError, UsageError
from genus.files import replacing
from genus.run_folder import RunFolder
from genus.text import read as text_read
from genus.text import read_documents
from genus.text.sources import CURATION, skipped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

ONE = Curation(steps=(FewSentences(least=2),))


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A corpus of several blocks."""
    monkeypatch.setattr(text_read, "BLOCK_BYTES", 1 << 14)
    return corpus(tmp_path / "text")


def test_documents_keep_where_they_come_from(tmp_path: Path, texts: list[Path]) -> None:
    report = clean(ALL, texts, tmp_path / "out")
    documents = curated.read(tmp_path / "out")
    assert len(documents) == report["kept"]["documents"] > 200
    originals: dict[tuple[str, int], dict[str, Any]] = {}
    for path in texts:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        originals |= {(str(path), row): json.loads(line) for row, line in enumerate(data.splitlines(), 1)}
    for document in documents:
        origin = originals[document["source"], document["row"]]
        assert document["url"] == origin["url"]
        assert document["text"] == origin["text"].removesuffix("\nMenu and links")
        assert "secret" not in document
    assert [*dict.fromkeys(document["source"] for document in documents)] == [*map(str, texts)]


def test_the_report_adds_up(tmp_path: Path, texts: list[Path]) -> None:
    report = clean(ALL, texts, tmp_path / "out")
    assert report["read"]["documents"] == 300
    rules = [found for rules in report["removed"].values() for found in rules.values()]
    assert report["read"]["documents"] - report["kept"]["documents"] == sum(
        found.get("documents", 0) for found in rules
    )
    copies = report["removed"]["1 ExactDuplicates"]["copy"]
    assert copies["documents"] == 30
    assert len(copies["samples"]) == 3
    assert report["removed"]["0 C4Lines"]["end_punctuation"]["lines"] == 30
    by_source = report["sources"].values()
    for what in ("read", "kept"):
        for unit in ("documents", "bytes"):
            assert sum(found[what][unit] for found in by_source) == report[what][unit]
    assert report["kept"]["bytes"] == sum(len(one["text"].encode()) for one in curated.read(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / CURATION).read_text()) == report
    assert sorted(files(tmp_path / "out")) == [CURATION, "text-00000.jsonl.gz"]


def test_readers_take_the_folder_as_it_is(tmp_path: Path, texts: list[Path]) -> None:
    clean(ALL, texts, tmp_path / "out")
    documents = [document["text"] for document in curated.read(tmp_path / "out")]
    assert [*read_documents([tmp_path / "out"])] == documents
    assert skipped([tmp_path / "out"]) == ""
    report = clean(ALL, [tmp_path / "out"], tmp_path / "again")
    assert report["kept"] == report["read"]


def test_workers_change_no_byte(tmp_path: Path, texts: list[Path]) -> None:
    clean(ALL, texts, tmp_path / "one")
    clean(ALL, texts, tmp_path / "three", workers=3)
    assert files(tmp_path / "one") == files(tmp_path / "three")


class Killed(BaseException):
    """What no handler catches."""


def test_a_killed_run_goes_on_to_the_same_bytes(
    tmp_path: Path, texts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after every few files that it writes, again and again."""
    clean(ALL, texts, tmp_path / "whole")
    left = 0

    def mortal(path: Path) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return replacing(path)

    monkeypatch.setattr(shards, "replacing", mortal)
    kills = 0
    for _ in range(100):
        left = 9
        try:
            clean(ALL, texts, tmp_path / "out")
            break
        except Killed:
            kills += 1
    assert kills > 10
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize("suffix", ["part", "keys.npy", "json"])
def test_a_damaged_shard_is_made_again(
    tmp_path: Path, texts: list[Path], suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean(ALL, texts, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(ExactDuplicates, "decide", None)
        with pytest.raises(TypeError):
            clean(ALL, texts, tmp_path / "out")
    (tmp_path / "out" / WORK / "0.json").unlink()
    damaged = tmp_path / "out" / WORK / "0" / f"000002.{suffix}"
    damaged.write_bytes(damaged.read_bytes()[:-7])
    clean(ALL, texts, tmp_path / "out")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_a_finished_curation_is_not_made_again(tmp_path: Path, texts: list[Path]) -> None:
    report = clean(ALL, texts, tmp_path / "out")
    before = (tmp_path / "out" / "text-00000.jsonl.gz").stat().st_mtime_ns
    assert clean(ALL, texts, tmp_path / "out") == report
    assert (tmp_path / "out" / "text-00000.jsonl.gz").stat().st_mtime_ns == before


def test_another_curation_is_refused(tmp_path: Path, texts: list[Path]) -> None:
    clean(ALL, texts, tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(UsageError, match=r"with other choices .curation."):
        clean(ONE, texts, tmp_path / "out")
    with pytest.raises(UsageError, match=r"made from one.jsonl.gz, two.jsonl, not from two.jsonl"):
        clean(ALL, texts[1:], tmp_path / "out")
    write(texts[1], [{"text": "Other."}])
    with pytest.raises(UsageError, match=r"made before .*two.jsonl changed"):
        clean(ALL, texts, tmp_path / "out")
    assert files(tmp_path / "out") == before


def test_a_changed_list_of_words_is_noticed(tmp_path: Path, texts: list[Path]) -> None:
    words = tmp_path / "words.txt"
    words.write_text("baran\n")
    choice = Curation(steps=(BadWords(file=str(words)),))
    clean(choice, texts, tmp_path / "out")
    words.write_text("kovek\n")
    with pytest.raises(UsageError, match=r"with other choices .files."):
        clean(choice, texts, tmp_path / "out")


def test_foreign_folders_are_refused(tmp_path: Path, texts: list[Path]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"is not empty .mine.txt."):
        clean(ONE, texts, tmp_path / "out")
    with pytest.raises(UsageError, match="holds text that is to be cleaned"):
        clean(ONE, texts, texts[0].parent)


def test_two_runs_into_one_folder(tmp_path: Path, texts: list[Path]) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from genus.run_folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="is in use by process"):
            clean(ONE, texts, tmp_path / "out")
        other.communicate("")
    clean(ONE, texts, tmp_path / "out")
    assert RunFolder(tmp_path / "out").content() == "other files"


def test_a_truncated_file_is_one_line_and_nothing_is_lost(tmp_path: Path, texts: list[Path]) -> None:
    whole = texts[0].read_bytes()
    texts[0].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GenusError, match=r"one.jsonl.gz: cannot be read to its end .*cut short or damaged"):
        clean(ONE, texts, tmp_path / "out")
    assert not (tmp_path / "out" / CURATION).exists()
    texts[0].write_bytes(whole)
    with pytest.raises(UsageError, match=r"one.jsonl.gz changed; delete it, or take another folder"):
        clean(ONE, texts, tmp_path / "out")
    clean(ONE, texts, tmp_path / "other")


def test_a_missing_file(tmp_path: Path, texts: list[Path]) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        clean(ONE, [texts[0].with_name("nothing.jsonl")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_line_and_the_run_goes_on(
    tmp_path: Path, texts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    clean(ALL, texts, tmp_path / "whole")
    written = 0

    def full(path: Path) -> Any:
        nonlocal written
        written += 1
        if written == 20:
            raise GenusError(f"{path}: cannot be written: {OSError(errno.ENOSPC, 'No space left on device').strerror}")
        return replacing(path)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "replacing", full)
        with pytest.raises(GenusError, match="No space left on device"):
            clean(ALL, texts, tmp_path / "out")
    clean(ALL, texts, tmp_path / "out")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_nothing_is_left(tmp_path: Path, texts: list[Path]) -> None:
    report = clean(Curation(steps=(FewSentences(least=1_000),)), texts, tmp_path / "out")
    assert report["kept"] == {"documents": 0, "bytes": 0}
    assert sorted(files(tmp_path / "out")) == [CURATION]


@pytest.mark.parametrize("compression", ["zst", "xz", "none"])
def test_compressions_hold_the_same(tmp_path: Path, texts: list[Path], compression: str) -> None:
    clean(ALL, texts, tmp_path / "gz")
    clean(ALL, texts, tmp_path / "out", compression=compression)
    assert [*read_documents([tmp_path / "out"])] == [*read_documents([tmp_path / "gz"])]


def test_a_large_corpus_is_several_files(tmp_path: Path, texts: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    clean(ONE, texts, tmp_path / "one")
    monkeypatch.setattr("genus.curate.run.FILE_BYTES", 10_000)
    report = clean(ONE, texts, tmp_path / "out")
    assert len(report["files"]) > 2
    assert curated.read(tmp_path / "out") == curated.read(tmp_path / "one")


def test_plain_text_has_rows_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\nOne. Two.\nMore.\n\n \n\nThree. Four.\n\nFive\n")
    (tmp_path / "b.txt").write_text("One. Two.\n\n")
    clean(ONE, [tmp_path / "a.txt", tmp_path / "b.txt"], tmp_path / "out")
    found = [(one["source"], one["row"], one["text"]) for one in curated.read(tmp_path / "out")]
    a, b = str(tmp_path / "a.txt"), str(tmp_path / "b.txt")
    assert found == [(a, 3, "One. Two.\nMore."), (a, 8, "Three. Four."), (b, 1, "One. Two.")]


def test_parquet_keeps_its_columns(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = {"text": ["One. Two.", None, "Three. Four."], "url": ["u1", "u2", None], "other": [1, 2, 3]}
    parquet.write_table(pyarrow.table(rows), tmp_path / "a.parquet")
    clean(ONE, [tmp_path / "a.parquet"], tmp_path / "out")
    found = curated.read(tmp_path / "out")
    assert [(one["row"], one["url"], one["text"]) for one in found] == [
        (1, "u1", "One. Two."),
        (3, None, "Three. Four."),
    ]
    assert "other" not in found[0]


def test_half_characters_are_written_as_replacements(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "One \\ud800. Two.", "url": "x\\ud800"}\n')
    clean(ONE, [tmp_path / "a.jsonl"], tmp_path / "out")
    (found,) = curated.read(tmp_path / "out")
    assert (found["text"], found["url"]) == ("One \ufffd. Two.", "x\ufffd")


def test_spans_of_sentences_are_kept_once(tmp_path: Path) -> None:
    draw = random.Random(3)
    shared = [curated.sentence(draw) for _ in range(4)]
    pages = [page(draw, 3) for _ in range(3)]
    texts = [" ".join([pages[0], *shared]), " ".join([*shared[:3], pages[1]]), " ".join([*shared[:2], pages[2]])]
    path = write(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    report = clean(Curation(steps=(RepeatedSpans(),)), [path], tmp_path / "out")
    found = [one["text"] for one in curated.read(tmp_path / "out")]
    assert found == [texts[0], pages[1], texts[2]]  # two sentences are no span
    assert report["removed"]["0 RepeatedSpans"]["repeated_span"]["lines"] == 3


def test_what_has_stood_before_is_found_in_parts() -> None:
    draw = np.random.default_rng(0)
    values = draw.integers(0, 300, 1_000).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    seen: set[int] = set()
    expected = []
    for value in map(int, values):
        expected.append(value in seen)
        seen.add(value)
    parts = np.split(values, [100, 100, 700])
    for at_once in (1 << 20, 400, 7):
        keys = Counted(parts)
        assert stood_before(keys, at_once).tolist() == expected
        assert keys.passes == 3, "however many parts there are"
    assert stood_before(Counted([])).tolist() == []


class Counted(ShardKeys):
    """Keys in memory, which count how often all of them are read."""

    def __init__(self, parts: list[NDArray[np.uint64]]) -> None:
        self.parts, self.passes = parts, 0

    def shards(self) -> Iterator[NDArray[Any]]:
        self.passes += 1
        return iter(self.parts)

    def scratch(self, number: int, kind: type[np.generic]) -> NDArray[Any]:
        return np.zeros(number, kind)


def test_a_curation_names_its_steps() -> None:
    assert Curation(steps=(C4Lines(), FewSentences())).names == ["0 C4Lines", "1 FewSentences"]
    with pytest.raises(UsageError, match="a curation needs a step"):
        Curation.from_json({"kind": "Curation", "steps": []})

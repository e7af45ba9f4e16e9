"""Strings in text, in token stores and in indexes: every place that a regular expression finds."""

from __future__ import annotations

import json
import random
import re
from typing import TYPE_CHECKING, Any

import pytest

import curated
from curated import write
from genus.cli import main
from genus.curate import suffix_index
from genus.curate.engines.local import LocalProcesses
from genus.curate.occurrences import Corpus, Found, Query, scan
from genus.curate.suffix_index import SuffixIndex
from genus.text import read as text_read
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.tokens.store import prepare

if TYPE_CHECKING:
    from pathlib import Path

    from genus.text import Source

ONE, TWO = LocalProcesses(workers=1), LocalProcesses(workers=2)
STRINGS = ["aba", "a", "é中", "中", "a b", "\n", "aaaa", "nowhere", "b" * 40, "é"]


def documents() -> list[dict[str, Any]]:
    draw = random.Random(0)
    texts = ["".join(draw.choice("ab é中\n") for _ in range(draw.randrange(1, 80))).strip() for _ in range(80)]
    return [
        {"text": text or "x", "id": number, "url": f"https://example.org/{number}"} for number, text in enumerate(texts)
    ]


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(text_read, "BLOCK_BYTES", 1 << 10)
    monkeypatch.setattr(suffix_index, "SHARD_BYTES", 700)
    return write(tmp_path / "text.jsonl", documents())


def expected(string: str, context: int) -> list[tuple[int, int, str, str]]:
    """Document, place and what stands around, by a regular expression; matches that overlap too."""
    found = []
    for number, document in enumerate(documents()):
        text = document["text"]
        for match in re.finditer(f"(?={re.escape(string)})", text):
            begin, end = match.start(), match.start() + len(string)
            found.append((number, begin, text[max(0, begin - context) : begin], text[end : end + context]))
    return found


def check(found: Found, string: str, source: Path) -> None:
    places = expected(string, 5)
    assert found.occurrences == len(places)
    assert found.documents == len({document for document, *_ in places})
    told = [(one.identity["id"], one.place, one.before, one.after) for one in found.shown]
    assert told == places[:7]
    assert all(one.identity["source"] == str(source) for one in found.shown)
    assert all(one.identity["row"] == one.identity["id"] + 1 for one in found.shown)


@pytest.mark.parametrize("string", STRINGS)
def test_all_places_are_found(tmp_path: Path, text: Path, string: str) -> None:
    corpus, query = Corpus([str(text)]), Query(string, context=5, most=7)
    check(scan(corpus, query, ONE), string, text)
    index = SuffixIndex(tmp_path / "index")
    pytest.importorskip("pydivsufsort")
    index.build(corpus, ONE)
    check(index.find(query), string, text)
    assert len(list((tmp_path / "index").glob("*.text"))) > 3


def test_workers_find_and_index_the_same(tmp_path: Path, text: Path) -> None:
    pytest.importorskip("pydivsufsort")
    corpus, query = Corpus([str(text)]), Query("a", context=5, most=7)
    check(scan(corpus, query, TWO), "a", text)
    SuffixIndex(tmp_path / "one").build(corpus, ONE)
    SuffixIndex(tmp_path / "two").build(corpus, TWO)
    assert curated.files(tmp_path / "one") == curated.files(tmp_path / "two")


def test_an_index_goes_on_where_it_was(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydivsufsort")
    corpus = Corpus([str(text)])
    SuffixIndex(tmp_path / "whole").build(corpus, ONE)
    sort, done = suffix_index.Sorting.__call__, list[int]()

    def stops(self: suffix_index.Sorting, shard: suffix_index.Shard) -> None:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(shard.number)
        sort(self, shard)

    with monkeypatch.context() as patch:
        patch.setattr(suffix_index.Sorting, "__call__", stops)
        with pytest.raises(KeyboardInterrupt):
            SuffixIndex(tmp_path / "index").build(corpus, ONE)
    damaged = tmp_path / "index" / "000001.text"
    damaged.write_bytes(damaged.read_bytes()[:-3])
    made = list[int]()

    def sorts(self: suffix_index.Sorting, shard: suffix_index.Shard) -> None:
        made.append(shard.number)
        sort(self, shard)

    monkeypatch.setattr(suffix_index.Sorting, "__call__", sorts)
    SuffixIndex(tmp_path / "index").build(corpus, ONE)
    assert made == [1, *range(3, len(made) + 2)]
    assert curated.files(tmp_path / "index") == curated.files(tmp_path / "whole")


@pytest.fixture
def store(tmp_path: Path, text: Path) -> Path:
    """A run's folder, with a tokenizer and a store."""
    texts: list[Source] = [text]
    tokenizer = ByteBPE(vocab_size=300, special_tokens=GPT2).train([document["text"] for document in documents()])
    tokenizer.save(tmp_path / "run" / "tokenizer")
    prepare(texts, tokenizer, tmp_path / "run" / "store", workers=1)
    return tmp_path / "run"


def test_a_token_store_holds_the_same(tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pydivsufsort")
    for arguments in ([str(store)], [str(store / "store")], [str(store), "--index", str(tmp_path / "index")]):
        for string in ("aba", "é中", "nowhere"):
            assert main(["find", string, *arguments, "--context", "5", "--show", "7", "--json"]) == 0
            told = json.loads(capsys.readouterr().out)
            places = expected(string, 5)
            assert told["occurrences"] == len(places)
            assert told["documents"] == len({document for document, *_ in places})
            shown = [(one["row"] - 1, one["place"], one["before"], one["after"]) for one in told["shown"]]
            assert shown == places[:7]
    (store / "tokenizer").rename(tmp_path / "words")
    assert main(["find", "aba", str(store)]) == 2
    assert "say with --tokenizer FOLDER by which it was made" in capsys.readouterr().err
    assert main(["find", "aba", str(store), "--tokenizer", str(tmp_path / "words")]) == 0


def test_the_command(tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pydivsufsort")
    index, places = str(tmp_path / "index"), expected("aba", 40)
    spoken = set[str]()
    for arguments in ([str(text)], [str(text), "--index", index], [str(text), "--index", index], ["--index", index]):
        assert main(["find", "aba", *arguments, "--show", "2"]) == 0
        spoken.add(capsys.readouterr().out)
    (out,) = spoken
    lines = out.splitlines()
    assert lines[0] == f"{len(places)} in {len({document for document, *_ in places})} documents"
    assert lines[1].startswith(f"{text}, {places[0][0] + 1}, {places[0][0]}: ")
    assert "[aba]" in lines[1]
    assert len(lines) == 3


def test_bad_input(tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pydivsufsort")
    index = str(tmp_path / "index")

    def fails(*arguments: str, code: int = 2) -> str:
        assert main(["find", *arguments]) == code
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        return err

    assert "the string is empty" in fails("", str(text))
    assert "name TEXT to look in, or an --index" in fails("a")
    assert "--context and --show: expected 0 or more" in fails("a", str(text), "--show", "-1")
    assert "there is no index; name the TEXT" in fails("a", "--index", index)
    assert "there is no such file" in fails("a", str(tmp_path / "no.jsonl"), "--index", index)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    assert "is not empty, and no index of this text (mine.txt)" in fails(
        "a", str(text), "--index", str(tmp_path / "other")
    )
    assert main(["find", "a", str(text), "--index", index]) == 0
    capsys.readouterr()
    assert "is an index of the field 'text'" in fails("a", str(text), "--index", index, "--field", "url")
    before = text.read_bytes()
    text.write_bytes(before[: len(before) // 2].rpartition(b"\n")[0])
    for arguments in ([str(text)], []):
        assert "was made before" in fails("a", *arguments, "--index", index)
    text.unlink()
    assert "is not there any more" in fails("a", "--index", index)
    text.write_bytes(before)
    suffixes = tmp_path / "index" / "000001.suffixes.npy"
    suffixes.write_bytes(suffixes.read_bytes()[:-9])
    assert "is damaged" in fails("a", "--index", index, code=1)

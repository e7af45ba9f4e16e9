"""Exact substrings: against a slow search, a suffix array of `pydivsufsort`, and copies that were put in."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import curated
from curated import clean, files, page, write
from genus.curate import Curation, exact_substrings, run_hashes, shards
from genus.curate.document import Document
from genus.curate.engines.local import LocalProcesses
from genus.curate.exact_substrings import RULE, ExactSubstrings
from genus.curate.shards import ShardKeys, Shards
from genus.errors import GenusError, UsageError
from genus.files import replacing
from genus.text import read as text_read
from genus.text import read_documents

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def slow(texts: Sequence[Sequence[int]], length: int, keep: str) -> list[list[bool]]:
    """Which units stand in a run that stands elsewhere, or before: every pair of places is compared."""
    gone = [[False] * len(text) for text in texts]
    places = [(i, p) for i, text in enumerate(texts) for p in range(len(text) - length + 1)]
    for number, (i, p) in enumerate(places):
        for j, q in places[:number]:
            if texts[i][p : p + length] == texts[j][q : q + length]:
                gone[i][p : p + length] = [True] * length
                if keep == "none":
                    gone[j][q : q + length] = [True] * length
    return gone


def decided(folder: Path, texts: list[str], step: ExactSubstrings, each: int) -> list[NDArray[np.bool_]]:
    """What the step decides of the units of texts, in shards of so many."""
    made = Shards(folder)
    for number, begin in enumerate(range(0, len(texts), each)):
        documents = [Document(text, {"source": "x"}) for text in texts[begin : begin + each]]
        made.write_keys(number, documents, {}, step)
    keys = ShardKeys(made, -(-len(texts) // each), LocalProcesses(workers=1))
    ends = np.cumsum([len(step.keys(text)) for text in texts])
    return np.split(np.array(step.decide(keys).removed), ends[:-1])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is done in many small parts."""
    monkeypatch.setattr(run_hashes, "CHUNK", 16)
    monkeypatch.setattr(run_hashes, "AT_ONCE", 30)
    monkeypatch.setattr(exact_substrings, "AT_ONCE", 23)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("keep", ["first", "none"])
@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 13])
def test_units_are_those_of_a_slow_search(tmp_path: Path, length: int, keep: Any) -> None:
    for trial in range(6):
        draw = random.Random(f"{length} {keep} {trial}")
        letters = "abé中" if trial % 2 else "ab"
        texts = ["".join(draw.choice(letters) for _ in range(draw.randrange(60))) for _ in range(6)]
        texts += [texts[0][5:40] + texts[1], "a" * 30, texts[2]]
        step = ExactSubstrings(length=length, keep=keep)
        expected = slow([text.encode() for text in texts], length, keep)
        for each in (2, 20):
            found = decided(tmp_path / f"{trial}-{each}", texts, step, each)
            assert [flags.tolist() for flags in found] == expected


def by_suffix_array(texts: list[bytes], length: int) -> list[NDArray[np.bool_]]:
    """The same by `pydivsufsort`: neighbours in the order of suffixes that share `length` units."""
    divsufsort = pytest.importorskip("pydivsufsort")
    units = np.concatenate(
        [np.array([*text, 256 + number], np.int32) for number, text in enumerate(texts)]
    )  # each text has an end of its own
    order = divsufsort.divsufsort(units)
    shared = divsufsort.kasai(units, order)[:-1] >= length
    starts = np.concatenate([order[:-1][shared], order[1:][shared]])
    flags = np.zeros(len(units), np.bool_)
    for start in starts:
        flags[start : start + length] = True
    ends = np.cumsum([len(text) + 1 for text in texts])
    return [part[:-1] for part in np.split(flags, ends)[:-1]]


@pytest.fixture(scope="module")
def wikipedia(shared: Path) -> list[str]:
    articles = read_documents([shared / "data" / "en_wikipedia" / "validation.jsonl.xz"])
    return [text for text in itertools.islice(articles, 150) if len(text) >= 500]


def test_real_text_with_copies_put_in(tmp_path: Path, wikipedia: list[str]) -> None:
    """Every copy is found, and what else is found a suffix array finds too."""
    draw, texts, put = random.Random(0), list(wikipedia), list[tuple[int, str]]()
    for _ in range(60):
        source, target = draw.randrange(50), draw.randrange(50, len(texts))
        begin = draw.randrange(len(wikipedia[source]) - 400)
        part = wikipedia[source][begin : begin + draw.randrange(200, 400)]
        place = draw.randrange(len(texts[target]))
        if all(target != other for other, _ in put):
            texts[target] = texts[target][:place] + part + texts[target][place:]
            put.append((target, part))
    assert len(put) > 25
    step = ExactSubstrings(length=200, keep="none")
    found = decided(tmp_path / "work", texts, step, 40)
    for target, part in put:
        place = len(texts[target][: texts[target].index(part)].encode())
        assert found[target][place : place + len(part.encode())].all()
    expected = by_suffix_array([text.encode() for text in texts], 200)
    assert all((mine == other).all() for mine, other in zip(found, expected, strict=True))
    plain = decided(tmp_path / "plain", wikipedia, step, 40)
    assert sum(map(np.count_nonzero, plain)) < 0.01 * sum(map(len, plain))


def texts_of(draw: random.Random) -> list[str]:
    shared = page(draw, 5)
    around = [(f"{page(draw)} {chr(65 + n)}", f"{chr(75 + n)} {page(draw)}") for n in range(4)]
    return [f"{before} {shared} {after}" for before, after in around] + [page(draw) for _ in range(4)] + [shared]


def made(tmp_path: Path, step: ExactSubstrings, texts: Iterable[str], **settings: Any) -> tuple[list[str], Any]:
    path = write(tmp_path / "text.jsonl", [{"text": text} for text in texts])
    report = clean(Curation(steps=(step,)), [path], tmp_path / "out", **settings)
    return [one["text"] for one in curated.read(tmp_path / "out")], report


def test_a_part_is_kept_where_it_stands_first(tmp_path: Path) -> None:
    texts = texts_of(random.Random(1))
    kept, report = made(tmp_path, ExactSubstrings(length=100), texts)
    shared = texts[-1]
    assert kept[0] == texts[0]
    for text, left in zip(texts[1:4], kept[1:4], strict=True):
        assert left == "".join(text.split(f" {shared} "))  # the spaces around it are repeated too
    assert kept[4:] == texts[4:8]
    rules = report["removed"]["0 ExactSubstrings"][RULE]
    assert (rules["documents"], rules["lines"]) == (1, 3)
    assert report["facts"]["0 ExactSubstrings"]["most occurrences"] == 5


def test_a_part_is_removed_everywhere_or_masked(tmp_path: Path) -> None:
    texts = texts_of(random.Random(1))
    kept, _ = made(tmp_path / "none", ExactSubstrings(length=100, keep="none"), texts)
    assert len(kept) == 8
    assert not [text for text in kept if texts[-1] in text]
    masked, _ = made(tmp_path / "mask", ExactSubstrings(length=100, keep="none", mask=" [...] "), texts)
    assert [text.split(" [...] ") for text in masked[:4]] == [text.split(f" {texts[-1]} ") for text in texts[:4]]


@pytest.mark.parametrize(("sentences", "left"), [("remove", "Ones. Zeros."), ("keep", "Ones. And {} Zeros.")])
def test_sentences_go_whole_or_stay_whole(tmp_path: Path, sentences: Any, left: str) -> None:
    draw = random.Random(4)
    first, middle = curated.sentence(draw), page(draw, 4)
    texts = [f"{first.removesuffix('.')} {middle}", f"Ones. And {first} {middle} Zeros."]
    half = first.removesuffix(".").split()[-1]
    texts[1] = f"Ones. And {half} {middle} Zeros."
    kept, _ = made(tmp_path, ExactSubstrings(length=60, sentences=sentences), texts)
    assert kept[0] == texts[0]
    opening = middle.split(". ")[0] + "."
    assert kept[1] == left.format(f"{half} {opening}")


def test_half_a_character_stays(tmp_path: Path) -> None:
    """é and ã begin with the same byte."""
    kept, _ = made(tmp_path, ExactSubstrings(length=3), ["abé", "abã"])
    assert kept == ["abé", "ã"]


def test_tokens_are_units_too(tmp_path: Path, shared: Path, wikipedia: list[str]) -> None:
    """Of GPT-2: the runs of 50 tokens that a slow search finds, and nothing of other texts."""
    from genus.tokens.tokenizer import Tokenizer

    folder = shared / "vocab" / "gpt2"
    tokenizer = Tokenizer.load(folder)
    part = wikipedia[0][:600]
    texts = [wikipedia[1][:800] + part + "end", wikipedia[2][:700] + part, part, wikipedia[3][:900]]
    step = ExactSubstrings(tokenizer=str(folder))
    ids = [tokenizer.encode([text], specials=False)[0] for text in texts]
    found = decided(tmp_path / "work", texts, step, 2)
    assert [flags.tolist() for flags in found] == slow(ids, 50, "first")
    kept, _ = made(tmp_path, step, texts)
    assert kept[0] == texts[0].strip()
    assert kept[1].startswith(wikipedia[2][:690].strip())
    assert len(kept[1]) < 720
    assert kept[2] == texts[3].strip()


def big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(text_read, "BLOCK_BYTES", 1 << 14)
    draw = random.Random(2)
    shared = [page(draw, 6) for _ in range(5)]
    texts = [f"{page(draw, 4)} {draw.choice(shared)} {page(draw, 4)}" for _ in range(120)]
    return write(tmp_path / "text.jsonl", [{"text": text} for text in texts])


STEPS = Curation(steps=(ExactSubstrings(length=120),))


def test_neither_workers_nor_the_size_of_shards_change_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = big(tmp_path, monkeypatch)
    clean(STEPS, [path], tmp_path / "one")
    clean(STEPS, [path], tmp_path / "three", workers=3)
    assert files(tmp_path / "one") == files(tmp_path / "three")
    monkeypatch.setattr(text_read, "BLOCK_BYTES", 1 << 12)
    clean(STEPS, [path], tmp_path / "small")
    texts = curated.read(tmp_path / "one")
    assert texts == curated.read(tmp_path / "small")
    assert len(texts) == 120


class Killed(BaseException):
    """What no handler catches."""


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = big(tmp_path, monkeypatch)
    clean(STEPS, [path], tmp_path / "whole")
    left = kills = 0

    def mortal(path: Path) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return replacing(path)

    monkeypatch.setattr(shards, "replacing", mortal)
    for _ in range(100):
        left = 5
        try:
            clean(STEPS, [path], tmp_path / "out")
            break
        except Killed:
            kills += 1
    assert kills > 10
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_bad_choices(tmp_path: Path) -> None:
    with pytest.raises(GenusError, match=r"nothing: there is no tokenizer.json"):
        made(tmp_path, ExactSubstrings(tokenizer=str(tmp_path / "nothing")), ["One."])
    with pytest.raises(UsageError, match="length: expected at least 1"):
        Curation.from_json({"kind": "Curation", "steps": [{"kind": "ExactSubstrings", "length": 0}]})

"""Longest runs of a text in an indexed corpus, beside a search through all of its substrings."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from curated import write
from genus.curate import suffix_index
from genus.curate.engines.local import LocalProcesses
from genus.curate.longest_match import LongestMatch
from genus.curate.occurrences import Corpus
from genus.curate.suffix_index import SuffixIndex
from genus.memorization.verbatim import Run, Verbatim, share_memorized
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.tokens.store import prepare

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tokens.tokenizer import Tokenizer

pytest.importorskip("pydivsufsort")
DRAW = random.Random(5)
DOCUMENTS = ["".join(DRAW.choice("ab é中\n") for _ in range(DRAW.randrange(20, 120))).strip() for _ in range(60)]
PLANTED = "the quick brown fox jumps over the lazy dog, said nobody ever before or after that day"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SuffixIndex:
    monkeypatch.setattr(suffix_index, "SHARD_BYTES", 900)
    rows = [{"text": text, "id": number} for number, text in enumerate([*DOCUMENTS, PLANTED, f"x {PLANTED} y"])]
    found = SuffixIndex(tmp_path / "index")
    found.build(Corpus([str(write(tmp_path / "text.jsonl", rows))]), LocalProcesses(workers=1))
    assert len(found.opened()) > 3
    return found


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return ByteBPE(vocab_size=320, special_tokens=GPT2).train([*DOCUMENTS, PLANTED] * 5)


def texts(number: int) -> list[str]:
    """Pieces of documents, one after another, with other characters between them."""
    draw, found = random.Random(9), []
    for _ in range(number):
        parts = []
        for _ in range(draw.randrange(1, 5)):
            document = draw.choice(DOCUMENTS)
            first = draw.randrange(len(document))
            parts.append(document[first : first + draw.randrange(30)] + draw.choice(["", "zz", "é", " "]))
        found.append("".join(parts))
    return found


def test_matches_against_every_prefix(index: SuffixIndex) -> None:
    match, corpus = LongestMatch(index), [text.encode() for text in [*DOCUMENTS, PLANTED]]
    for text in texts(20):
        data = text.encode()
        for start in range(len(data)):
            sizes = range(len(data) - start, -1, -1)
            expected = next(size for size in sizes if any(data[start : start + size] in one for one in corpus))
            assert match.size(data, start) == expected


def test_longest_runs_against_every_run_of_tokens(index: SuffixIndex, tokenizer: Tokenizer) -> None:
    verbatim = Verbatim(index, tokenizer)
    for text in texts(60):
        spans = tokenizer.encode_with_offsets(text)[1].tolist()
        expected = max(
            (
                stop - first
                for first in range(len(spans))
                for stop in range(first + 1, len(spans) + 1)
                if any(text[spans[first][0] : spans[stop - 1][1]] in one for one in [*DOCUMENTS, PLANTED])
            ),
            default=0,
        )
        found = verbatim.longest(text)
        assert found.tokens == expected
        assert not found.tokens or any(found.text in one for one in [*DOCUMENTS, PLANTED])


def test_a_planted_string_is_found_where_it_was_planted(index: SuffixIndex, tokenizer: Tokenizer) -> None:
    verbatim = Verbatim(index, tokenizer)
    run = verbatim.longest(f"Once: {PLANTED[4:-9]} never")
    assert run.text.strip() == PLANTED[4:-9].strip()
    assert run.characters == len(run.text)
    held = verbatim.held(run)
    assert (held.occurrences, held.documents) == (2, 2)
    assert [one["id"] for one in held.shown] == [60, 61]
    assert verbatim.longest("") == Run(0, "")


def test_the_share_of_memorized_tokens_against_every_window(tmp_path: Path, tokenizer: Tokenizer) -> None:
    draw = random.Random(2)
    known = [" ".join(draw.choice(["ab", "ba", "aab", "b", "é"]) for _ in range(60)) for _ in range(8)]
    source = write(tmp_path / "known.jsonl", [{"text": text} for text in known])
    store = prepare([source], tokenizer, tmp_path / "store")
    first, last = store.sentences[store.documents].T
    trained = [store.ids[begin:end].tolist() for begin, end in zip(first, last, strict=True)]
    written = [[*one[5:40], 7, 7, *one[50:58]] for one in trained[:3]] + [[3] * 30, [1]]
    length = 10

    flags = []
    for ids in written:
        mine = np.zeros(len(ids), bool)
        for start in range(len(ids) - length + 1):
            window = ids[start : start + length]
            if any(window == one[at : at + length] for one in trained for at in range(len(one))):
                mine[start : start + length] = True
        flags.append(mine)
    expected = np.concatenate(flags)
    assert 0 < expected.mean() < 1
    assert share_memorized(store, written, length) == pytest.approx(expected.mean())

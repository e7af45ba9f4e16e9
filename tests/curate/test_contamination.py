"""Contamination: rows of evaluation tables that stand in the corpus are named."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

import curated
from curated import clean, page, write
from genus.curate import Curation
from genus.curate.contamination import Contamination
from genus.errors import GenusError

if TYPE_CHECKING:
    from pathlib import Path

QUESTION = "Which of these animals, seen at night by two of the keepers, eats nothing but leaves?"
CHOICE = "the one that hangs from the branches of old trees in the north of the country"


def test_rows_are_named_by_table(tmp_path: Path) -> None:
    draw = random.Random(0)
    first = write(tmp_path / "arc.jsonl", [{"q": page(draw)}, {"q": QUESTION, "choices": {"text": ["No.", CHOICE]}}])
    second = write(tmp_path / "other.jsonl.gz", [{"sentence": QUESTION}, {"sentence": "Too short."}])
    documents = [
        page(draw),
        f"{page(draw)} {QUESTION.upper().replace(',', '')} {page(draw)}",  # case and punctuation do not matter
        CHOICE,
        " ".join(QUESTION.split()[:12]),  # one word too few
        "Too short.",
    ]
    path = write(tmp_path / "text.jsonl", [{"text": text} for text in documents])
    for remove in (True, False):
        step = Contamination(tables=(str(first), str(second)), remove=remove)
        report = clean(Curation(steps=(step,)), [path], tmp_path / f"out-{remove}")
        assert report["found"] == {"0 Contamination": {f"{first}:2": 2, f"{second}:1": 1}}
        kept = [one["text"] for one in curated.read(tmp_path / f"out-{remove}")]
        assert kept == [text for number, text in enumerate(documents) if not remove or number not in (1, 2)]


def test_real_rows_are_found_in_real_text(tmp_path: Path, shared: Path) -> None:
    table = shared / "data" / "arc" / "easy_validation.jsonl.gz"
    rows = [json.loads(line) for line in curated.lines(table)]
    long = [number for number, row in enumerate(rows, 1) if len(row["question"].split()) >= 20]
    draw = random.Random(0)
    planted = draw.sample(long, 20)
    texts = [f"{page(draw)} {rows[number - 1]['question']} {page(draw)}" for number in planted]
    path = write(tmp_path / "text.jsonl", [{"text": text} for text in [page(draw) for _ in range(50)] + texts])
    report = clean(Curation(steps=(Contamination(tables=(str(table),)),)), [path], tmp_path / "out")
    found = {int(name.rpartition(":")[2]) for name in report["found"]["0 Contamination"]}
    assert found >= {*planted}
    assert report["kept"]["documents"] == 50


def test_bad_tables(tmp_path: Path) -> None:
    path = write(tmp_path / "text.jsonl", [{"text": "One."}])
    short = write(tmp_path / "short.jsonl", [{"text": "One."}])
    (tmp_path / "bad.jsonl").write_text("[1, 2\n")
    for table, message in (
        (short, "no text in it has 13 words"),
        (tmp_path / "bad.jsonl", "line 1: not a line of JSON"),
        (tmp_path / "nothing.jsonl", "cannot be read: No such file"),
    ):
        with pytest.raises(GenusError, match=message):
            clean(Curation(steps=(Contamination(tables=(str(table),)),)), [path], tmp_path / "out")
    assert not (tmp_path / "out").exists()

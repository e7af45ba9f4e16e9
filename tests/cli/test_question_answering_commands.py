"""Questions are answered by the command line: learned, evaluated, exported; and what cannot be used is one line."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from small_run import WORDS, document, write

from genus.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from small_run import Place

    Captured = pytest.CaptureFixture[str]

QUICK = ["--task", "question-answering", "--seeds", "1", "--run", "device=cpu"]
HARD = ["--set", "finetuning.epochs=30", "--set", "finetuning.batch=8", "--set", "finetuning.optimizer.lr=5e-3"]
HARD += ["--set", "finetuning.max_length=24", "--set", "finetuning.optimizer.bias_correction=true"]


def questions() -> list[dict[str, Any]]:
    """Return contexts of words of the kitchen, with one of the sea, which is the answer, or without an answer."""
    draw, rows = random.Random(0), []
    for number in range(24):
        words = [draw.choice(WORDS["kitchen"]) for _ in range(14)]
        at, answer = draw.randrange(14), draw.choice(WORDS["sea"])
        words = words if number % 3 == 0 else [*words[:at], answer, *words[at + 1 :]]
        starts = {} if number % 3 == 0 else {answer: len(" ".join(["", *words[:at]])) if at else 0}
        answers = {"text": [*starts], "answer_start": [*starts.values()]}
        rows.append({"key": number, "q": "sea", "passage": " ".join(words), "spans": answers})
    return rows


COLUMNS = ["--text", "q", "--text", "passage", "--label", "spans", "--task-set", "id=key"]


def test_answers_are_learned_and_the_model_goes_everywhere(capsys: Captured, place: Place, tmp_path: Path) -> None:
    table = write(tmp_path / "train.jsonl", questions())
    report = document(
        capsys, "finetune", place.run, table, "--validation", table, "--out", tmp_path / "out", *COLUMNS, *QUICK, *HARD
    )
    assert report["summary"]["validation"]["answer_exact_match"]["mean"] > 0.9
    assert report["task"]["kind"] == "QuestionAnswering"
    threshold = float(report["seeds"][0]["thresholds"]["null_threshold"])
    model, answers = tmp_path / "out" / "model", tmp_path / "answers.jsonl"
    found = document(capsys, "evaluate", model, table, *COLUMNS, "--answers", answers, "--run", "device=cpu")
    assert found == report["seeds"][0]["metrics"]["validation"]
    for line, row in zip(map(json.loads, answers.read_text().splitlines()), questions(), strict=True):
        told = line["scores"]
        assert line["id"] == str(row["key"])
        assert line["predicted"] == row["passage"][told["start"] : told["end"]]
        assert (line["predicted"] == "") == (told["null_difference"] > threshold + 1e-4)
    exported = document(capsys, "export", model, "--out", tmp_path / "exported")
    assert exported["model_type"] == "bert"
    assert exported["differences"].keys() >= {"span_extraction/start_logits", "span_extraction/end_logits"}
    config = json.loads((tmp_path / "exported" / "config.json").read_text())
    assert config["architectures"] == ["BertForQuestionAnswering"]
    assert document(capsys, "evaluate", tmp_path / "exported", table, *COLUMNS, "--run", "device=cpu") == found


GOOD = [{"question": "sea", "context": "wave oven", "answers": {"text": ["wave"], "answer_start": [0]}}] * 3
BAD = {
    "a column that is not there": ([{"context": "wave"}], 1, "train.jsonl, line 1: there is no column 'question'"),
    "answers that are one text": (
        [*GOOD, GOOD[0] | {"answers": "wave"}],
        1,
        "train.jsonl, line 4: column 'answers' holds no answers; expected",
    ),
    "answers that stand nowhere": (
        [GOOD[0] | {"answers": {"text": ["pan"], "answer_start": [0]}}] * 3,
        1,
        "train.jsonl: no row has an answer at its answer_start",
    ),
    "one text": (GOOD, 2, "texts: name the column of the question, then that of the context"),
}


@pytest.mark.parametrize("case", BAD)
def test_tables_that_cannot_be_used(case: str, capsys: Captured, place: Place, tmp_path: Path) -> None:
    rows, code, message = BAD[case]
    write(tmp_path / "train.jsonl", rows)
    more = ["--text", "context"] if case == "one text" else []
    capsys.readouterr()
    assert main(["finetune", str(place.run), str(tmp_path), "--out", str(tmp_path / "out"), *QUICK, *more]) == code
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.startswith("genus: error: ")]
    assert message in line
    assert captured.err.endswith(line + "\n")

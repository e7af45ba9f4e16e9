"""Words are tagged by the command line: learned by heart, evaluated, exported; and what cannot be used is one line."""

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

QUICK = ["--task", "tagging", "--seeds", "1", "--run", "device=cpu"]
HARD = ["--set", "finetuning.epochs=25", "--set", "finetuning.batch=8", "--set", "finetuning.optimizer.lr=1e-2"]
HARD += ["--set", "finetuning.max_length=32", "--set", "finetuning.optimizer.bias_correction=true"]


def sentences() -> list[dict[str, Any]]:
    """Return a few sentences, in which words of the sea are names, those of the kitchen are not."""
    draw = random.Random(0)
    pairs = [[draw.choice([*((w, "B-SEA") for w in WORDS["sea"]), *((w, "O") for w in WORDS["kitchen"])])
              for _ in range(6)] for _ in range(16)]  # fmt: skip
    return [{"words": [word for word, _ in pair], "pos": [tag for _, tag in pair]} for pair in pairs]


def test_sentences_are_learned_by_heart_and_the_model_goes_everywhere(
    capsys: Captured, place: Place, tmp_path: Path
) -> None:
    table = write(tmp_path / "train.jsonl", sentences())
    columns = ["--text", "words", "--label", "pos"]
    report = document(
        capsys, "finetune", place.run, table, "--validation", table, "--out", tmp_path / "out", *columns, *QUICK, *HARD
    )
    assert report["summary"]["validation"]["entity_f1"]["mean"] == 1.0
    assert report["task"]["kind"] == "Tagging"
    model, answers = tmp_path / "out" / "model", tmp_path / "answers.jsonl"
    found = document(capsys, "evaluate", model, table, *columns, "--answers", answers, "--run", "device=cpu")
    assert found == dict.fromkeys(("entity_f1", "entity_precision", "entity_recall", "word_accuracy"), 1.0)
    assert [json.loads(line)["predicted"] for line in answers.read_text().splitlines()] == [
        row["pos"] for row in sentences()
    ]
    exported = document(capsys, "export", model, "--out", tmp_path / "exported")
    assert exported["model_type"] == "bert"
    config = json.loads((tmp_path / "exported" / "config.json").read_text())
    assert config["architectures"] == ["BertForTokenClassification"]
    assert config["id2label"] == {"0": "B-SEA", "1": "O"}
    assert document(capsys, "evaluate", tmp_path / "exported", table, *columns, "--run", "device=cpu") == found


@pytest.mark.parametrize("crf", ["false", "true"])
def test_an_lstm_over_the_words_learns_too_and_is_kept_in_a_folder_of_our_own(
    capsys: Captured, place: Place, tmp_path: Path, crf: str
) -> None:
    """Two words of one kind in a row are one name: what a tag is depends on the word before."""
    rows = sentences()
    for row in rows:
        tags = row["pos"]
        row["pos"] = ["I-SEA" if i and tag != "O" and tags[i - 1] != "O" else tag for i, tag in enumerate(tags)]
    table, columns = write(tmp_path / "train.jsonl", rows), ["--text", "words", "--label", "pos"]
    kind = [
        "--task",
        "recurrent-tagging",
        "--task-set",
        "size=16",
        "--task-set",
        "layers=1",
        "--task-set",
        f"crf={crf}",
    ]
    report = document(
        capsys, "finetune", place.run, table, "--validation", table, "--out", tmp_path / "out", *columns, *QUICK[2:],
        *HARD, *kind,
    )  # fmt: skip
    assert report["summary"]["validation"]["entity_f1"]["mean"] > 0.95
    model, answers = tmp_path / "out" / "model", tmp_path / "answers.jsonl"
    found = document(capsys, "evaluate", model, table, *columns, "--answers", answers, "--run", "device=cpu")
    assert found == report["seeds"][0]["metrics"]["validation"]
    for line, row in zip(answers.read_text().splitlines(), rows, strict=True):
        answer = json.loads(line)
        assert len(answer["predicted"]) == len(row["pos"])
        assert all(0 < chance <= 1 for chance in answer["scores"])
    exported = document(capsys, "export", model, "--out", tmp_path / "exported")
    assert exported["model_type"] != "bert"
    assert document(capsys, "evaluate", tmp_path / "exported", table, *columns, "--run", "device=cpu") == found


GOOD = [{"tokens": ["wave", "oven"], "ner_tags": ["B-X", "O"]}] * 3
BAD = {
    "a column that is not there": ([{"text": "wave"}], GOOD, "train.jsonl, line 1: there is no column 'tokens'"),
    "words that are one text": (
        [*GOOD, {"tokens": "wave oven", "ner_tags": ["O"]}],
        GOOD,
        "train.jsonl, line 4: column 'tokens' holds no list of words",
    ),
    "fewer tags than words": (
        [*GOOD, {"tokens": ["wave", "oven"], "ner_tags": ["O"]}],
        GOOD,
        "train.jsonl, line 4: 2 words in column 'tokens', but 1 tags in column 'ner_tags'",
    ),
    "a sentence without words": (
        [*GOOD, {"tokens": [], "ner_tags": []}],
        GOOD,
        "train.jsonl, line 4: column 'tokens' holds no words",
    ),
    "a tag that training lacks": (
        GOOD,
        [*GOOD, {"tokens": ["wave"], "ner_tags": ["B-Y"]}],
        "dev.jsonl, line 4: label 'B-Y' does not occur in training, which has B-X, O",
    ),
    "only words of which nothing is left": (
        [{"tokens": ["\u200b", " "], "ner_tags": ["B-X", "O"]}],
        GOOD,
        "train.jsonl: no row has a text of which the tokenizer leaves something",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_tables_that_cannot_be_used(case: str, capsys: Captured, place: Place, tmp_path: Path) -> None:
    train, dev, message = BAD[case]
    write(tmp_path / "train.jsonl", train)
    write(tmp_path / "dev.jsonl", dev)
    capsys.readouterr()
    assert main(["finetune", str(place.run), str(tmp_path), "--out", str(tmp_path / "out"), *QUICK]) == 1
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.startswith("genus: error: ")]
    assert message in line
    assert captured.err.endswith(line + "\n")


def test_a_metric_of_whole_rows_is_refused(capsys: Captured, place: Place, tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", GOOD)
    arguments = ["finetune", str(place.run), str(tmp_path), "--out", str(tmp_path / "out"), *QUICK]
    assert main([*arguments, "--metric", "macro_f1"]) == 2
    assert "metrics: macro_f1 judges classes, not tags" in capsys.readouterr().err

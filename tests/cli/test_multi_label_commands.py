"""Several labels of a text by the command line: learned, evaluated, exported; what is no use is one line."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest
from small_run import WORDS, document

from genus.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from small_run import Place

    Captured = pytest.CaptureFixture[str]

QUICK = ["--task", "multi-label", "--seeds", "1", "--run", "device=cpu"]
HARD = ["--set", "finetuning.epochs=25", "--set", "finetuning.batch=8", "--set", "finetuning.optimizer.lr=1e-2"]
HARD += ["--set", "finetuning.max_length=32", "--set", "finetuning.optimizer.bias_correction=true"]


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def tables(folder: Path) -> tuple[Path, Path]:
    """Write a few texts, with the kinds of their words: between semicolons, and in a column each, in another order."""
    draw, listed, marked = random.Random(0), "text,labels\n", "kitchen,text,sea\n"
    for _ in range(24):
        kinds = draw.sample(["sea", "kitchen"], draw.randint(0, 2))
        words = " ".join(draw.choice(WORDS[kind]) for kind in kinds for _ in range(2)) or "nothing at all"
        listed += f"{words},{'; '.join(kinds)}\n"
        marked += f"{'kitchen' in kinds:d},{words},{'sea' in kinds:d}\n"
    return write(folder / "train.csv", listed), write(folder / "marked.csv", marked)


def test_labels_are_learned_and_the_model_goes_everywhere(capsys: Captured, place: Place, tmp_path: Path) -> None:
    listed, marked = tables(tmp_path)
    tuned = ["--task-set", "thresholds=tuned"]
    report = document(
        capsys, "finetune", place.run, listed, "--validation", listed, "--out", tmp_path / "out", *QUICK, *HARD, *tuned
    )
    assert report["task"]["separator"] == ";"
    assert report["summary"]["validation"]["label_micro_f1"]["mean"] > 0.9
    model, answers = tmp_path / "out" / "model", tmp_path / "answers.jsonl"
    found = document(capsys, "evaluate", model, listed, "--answers", answers, "--run", "device=cpu")
    assert found == report["seeds"][0]["metrics"]["validation"]
    told = [json.loads(line) for line in answers.read_text().splitlines()]
    assert sum(sorted(line["label"]) == line["predicted"] for line in told) == 24 * found["subset_accuracy"]
    assert all(line["scores"].keys() == {"kitchen", "sea"} for line in told)
    columns = ["--label", "kitchen,sea"]
    assert document(capsys, "evaluate", model, marked, *columns, "--run", "device=cpu") == found
    exported = document(capsys, "export", model, "--out", tmp_path / "exported")
    assert exported["model_type"] == "bert"
    config = json.loads((tmp_path / "exported" / "config.json").read_text())
    assert (config["architectures"], config["problem_type"]) == (
        ["BertForSequenceClassification"],
        "multi_label_classification",
    )
    assert config["multi_label_thresholds"] == list(report["seeds"][0]["thresholds"].values())
    assert document(capsys, "evaluate", tmp_path / "exported", marked, *columns, "--run", "device=cpu") == found


BAD = {
    "another metric": (["--metric", "accuracy"], 2, "accuracy judges classes, not labels or label scores"),
    "a column that is not there": (["--label", "sea,land"], 1, "line 2: there is no column 'land'"),
    "a number": (["--label", "sea,text"], 1, "line 2: column 'text' holds "),
    "no separator": (["--task-set", "separator=:"], 2, "separator: expected one of 'auto', 'none', "),
}


@pytest.mark.parametrize(("options", "code", "says"), BAD.values(), ids=BAD)
def test_what_cannot_be_used_is_one_line(
    capsys: Captured, place: Place, tmp_path: Path, options: list[str], code: int, says: str
) -> None:
    _, marked = tables(tmp_path)
    assert main(["finetune", str(place.run), str(marked), "--out", str(tmp_path / "out"), *QUICK, *options]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert not (tmp_path / "out").exists()

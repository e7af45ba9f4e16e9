"""Noise in `finetune` and `evaluate`: learned or unseen, and how metrics fall."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from small_run import document

from genus.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from small_run import Place

QUICK = ["--seeds", "1", "--set", "finetuning.epochs=1", "--run", "device=cpu", "--run", "tracker=none"]


@pytest.fixture(scope="module")
def tuned(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned") / "out"
    given = ["finetune", str(place.run), str(place.folder / "task"), "--out", str(out), *QUICK]
    assert main([*given, "--train-noise", "antspeak", "--noise", "random-case:0.1"]) == 0
    return out


def test_the_report_says_what_was_noised(tuned: Path) -> None:
    told = json.loads((tuned / "report.json").read_text())
    assert told["data"]["train"]["noise"] == "antspeak:1:0"
    assert told["data"]["validation"]["noise"] == "random-case:0.1:0"


def test_other_noise_is_another_training(place: Place, tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["finetune", str(place.run), str(place.folder / "task"), "--out", str(tuned), *QUICK]
    assert main([*given, "--train-noise", "drop", "--noise", "random-case:0.1"]) == 2
    assert "holds results of other choices" in capsys.readouterr().err


def test_metrics_of_a_noisy_table(place: Place, tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, model = place.folder / "task" / "validation.jsonl", tuned / "model"
    clean = document(capsys, "evaluate", model, table)
    zero = document(capsys, "evaluate", model, table, "--noise", "drop:0")
    assert zero == clean
    noised = document(capsys, "evaluate", model, table, "--noise", "random-case:0.1")
    told = json.loads((tuned / "seed-0" / "result.json").read_text())["trial"]["metrics"]["validation"]
    assert noised["accuracy"] == pytest.approx(told["accuracy"])


def test_a_curve_of_rates(place: Place, tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, file = place.folder / "task" / "validation.jsonl", tmp_path / "curve.json"
    given = ["evaluate", tuned / "model", table, "--noise", "drop", "--results", file]
    found = document(capsys, *given, "--noise-rates", "0,0.5,1")
    clean = document(capsys, "evaluate", tuned / "model", table)
    assert found["accuracy at 0"] == clean["accuracy"]
    told = json.loads(file.read_text())
    assert [one["rate"] for one in told["rates"]] == [0, 0.5, 1]
    assert told["rates"][1]["metrics"]["accuracy"]["mean"] == found["accuracy at 0.5"]
    page = file.with_suffix(".html").read_text()
    assert "<svg" in page
    assert "<script" not in page
    assert "rate of drop" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--noise", "dorp"], "Did you mean 'drop'"),
        (["--noise-rates", "0.1"], "--noise-rates: are of a noise; name it with --noise"),
        (["--noise", "drop", "--noise-rates", "2"], "expected shares from 0 to 1"),
        (["--noise", "drop", "--noise-rates", "a"], "expected shares from 0 to 1"),
    ],
)
def test_wrong_noise_is_one_line(
    place: Place, tuned: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tuned / "model"), str(place.folder / "task" / "validation.jsonl"), *options]) == 2
    assert message in capsys.readouterr().err
    assert main(["evaluate", str(place.run), str(place.folder / "text.jsonl"), "--noise", "drop"]) == 2
    assert "--noise: is for a fine-tuned model" in capsys.readouterr().err

"""Few labels by the command line: what is made is said and reported; what cannot be is one line."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from small_run import document

from genus.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from small_run import Place

    Captured = pytest.CaptureFixture[str]

QUICK = ["--seeds", "1", "--run", "device=cpu", "--set", "finetuning.epochs=1", "--set", "finetuning.max_length=24"]


def test_rows_are_made_by_the_run_s_own_masked_model(capsys: Captured, place: Place, tmp_path: Path) -> None:
    arguments = ["finetune", place.run, place.folder / "task", "--out", tmp_path / "out", *QUICK]
    few = ["--augment", "masked-replacement", "--augment-set", f"model={place.run}", "--augment-set", "copies=2"]
    report = document(capsys, *arguments, *few, "--task", "contrastive-classification", "--task-set", "temperature=0.1")
    assert report["augmentation"]["kind"] == "MaskedReplacement"
    assert report["objective"]["temperature"] == 0.1
    assert 40 < report["augmentation"]["rows"] <= 80
    assert report["data"]["train"]["rows"] == 40 + report["augmentation"]["rows"]
    model = tmp_path / "out" / "model"
    assert json.loads((model / "config.json").read_text())["architectures"] == ["BertForSequenceClassification"]
    told = document(capsys, "evaluate", model, place.folder / "task" / "validation.jsonl", "--run", "device=cpu")
    named = ["--task", "contrastive-classification", "--run", "device=cpu"]
    assert document(capsys, "evaluate", model, place.folder / "task" / "validation.jsonl", *named) == told


def test_texts_without_labels_are_changed_by_a_part_that_is_named(
    capsys: Captured, place: Place, tmp_path: Path
) -> None:
    """Its own choices are set by their path; each of 40 labels is read with one of the 120 texts three times."""
    arguments = ["finetune", place.run, place.folder / "task", "--out", tmp_path / "out", *QUICK]
    few = ["--augment", "consistency", "--augment-set", f"unlabeled={place.folder / 'text.jsonl'}"]
    change = ["change=MaskedReplacement", f"change.model={place.run}", "pairs=1", "annealing=none", "confidence=0.1"]
    report = document(capsys, *arguments, *few, *(word for one in change for word in ("--augment-set", one)))
    assert report["augmentation"]["change"]["kind"] == "MaskedReplacement"
    assert report["augmentation"]["rows"] == 0
    assert report["objective"] | {"passed": 120, "annealing": "none", "confidence": 0.1} == report["objective"]


CASES = {
    "a kind that is not there": (["--augment", "mixupp"], 2, "--augment: there is no 'mixupp'. Did you mean 'mixup'?"),
    "a setting of nothing": (["--augment-set", "copies=2"], 2, "--augment-set: nothing is augmented; name the kind"),
    "a choice that is not there": (["--augment", "mixup", "--augment-set", "alfa=2"], 2, "Mixup has no choice 'alfa'"),
    "another task": (
        ["--augment", "random-edits", "--task", "regression"], 2,
        "augmentation: RandomEdits is for the classification of texts or pairs, and not for Regression",
    ),
    "a suite": (["--augment", "random-edits", "--task", "glue"], 2, "fine-tune on it by name"),
    "no table": (
        ["--augment", "self-training", "--augment-set", "unlabeled=none.jsonl"], 1, "none.jsonl: there is no such file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_is_one_line(case: str, capsys: Captured, place: Place, tmp_path: Path) -> None:
    arguments, code, line = CASES[case]
    assert main(["finetune", str(place.run), str(place.folder / "task"), "--out", str(tmp_path / "out"), *QUICK,
                 *arguments]) == code  # fmt: skip
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("genus: error: ")
    assert line in error
    shutil.rmtree(tmp_path / "out", ignore_errors=True)

"""Few parameters by the command line: trained, evaluated, moved, merged; and what cannot be is one line."""

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

QUICK = ["--seeds", "1", "--run", "device=cpu", "--set", "finetuning.epochs=2", "--set", "finetuning.max_length=24"]
ON_CPU = ["--run", "device=cpu", "--run", "precision=float32"]


def test_an_adapter_is_trained_measured_moved_and_merged(capsys: Captured, place: Place, tmp_path: Path) -> None:
    base, table = tmp_path / "base", place.folder / "task" / "validation.jsonl"
    shutil.copytree(place.run / "model", base)
    chosen = ["--adapt", "lora", "--adapt-set", "rank=2", "--adapt-set", 'targets=["key", "feedforward"]']
    report = document(
        capsys, "finetune", base, place.folder / "task", "--out", tmp_path / "out", *QUICK, *chosen,
        "--set", "finetuning.optimizer.lr=1e-2",
    )  # fmt: skip
    assert report["settings"]["adaptation"] == {
        "kind": "LoRA", "rank": 2, "alpha": 8.0, "dropout": 0.0, "targets": ["key", "feedforward"], "stabilized": False,
    }  # fmt: skip
    model = tmp_path / "out" / "model"
    told = json.loads((model / "adapter_config.json").read_text())
    assert (told["peft_type"], told["task_type"], told["base_model_name_or_path"]) == ("LORA", "SEQ_CLS", str(base))
    found = document(capsys, "evaluate", tmp_path / "out", table, *ON_CPU)
    merged = document(capsys, "export", model, "--merge", "--out", tmp_path / "merged")
    assert merged["model_type"] == "bert"
    assert max(merged["differences"].values()) < 1e-4
    assert document(capsys, "evaluate", tmp_path / "merged", table, *ON_CPU) == pytest.approx(found)
    base.rename(tmp_path / "moved")
    assert main(["evaluate", str(model), str(table), *ON_CPU]) == 1
    assert "is not there; name the folder of the base with --base" in capsys.readouterr().err
    assert document(capsys, "evaluate", model, table, "--base", tmp_path / "moved", *ON_CPU) == found


CASES = {
    "a kind that is not there": (["--adapt", "lorra"], 2, "--adapt: there is no 'lorra'. Did you mean 'lora'?"),
    "a setting of nothing": (["--adapt-set", "rank=8"], 2, "--adapt-set: nothing is adapted; name the kind"),
    "a choice that is not there": (["--adapt", "lora", "--adapt-set", "ranc=8"], 2, "LoRA has no choice 'ranc'"),
    "a role that is not there": (
        ["--adapt", "lora", "--adapt-set", 'targets=["recurrent"]'], 2,
        "finetuning.adaptation: LoRA: targets: the network has no map of the role recurrent; it has query, key, value",
    ),
    "random weights": (["--adapt", "lora", "--random"], 2, "leave --random out"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_is_one_line(case: str, capsys: Captured, place: Place, tmp_path: Path) -> None:
    arguments, code, line = CASES[case]
    assert main(["finetune", str(place.run), str(place.folder / "task"), "--out", str(tmp_path / "out"), *QUICK,
                 *arguments]) == code  # fmt: skip
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("genus: error: ")
    assert line in error


def test_an_adapter_is_exported_by_merging_and_a_model_is_not_merged(
    capsys: Captured, place: Place, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    document(capsys, "finetune", place.run, place.folder / "task", "--out", out, *QUICK, "--adapt", "prompt-tuning")
    for arguments, line in (
        ([out], "is an adapter, in the layout of peft already; give --merge for a plain model"),
        ([out, "--merge"], "PromptTuning cannot be merged"),
        ([place.run, "--merge"], "--merge: this model is no adapter, and whole as it is"),
        ([place.run, "--base", place.run], "is no adapter, and needs none"),
    ):
        assert main(["export", *map(str, arguments), "--out", str(tmp_path / "exported")]) == 2
        assert line in capsys.readouterr().err

"""Each command does what it says; with `--json`, one document goes to standard output and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file
from small_run import SMALL

from genus import catalog
from genus.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from small_run import Place

    Captured = pytest.CaptureFixture[str]


def answer(capsys: Captured, *arguments: object) -> Any:
    """Run a command with `--json` and return its document."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def said(capsys: Captured, *arguments: object) -> str:
    """Run a command and return what it prints."""
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_help_is_quick_and_names_every_command() -> None:
    """What takes a second or more to import is left for the commands that need it."""
    timed = [sys.executable, "-X", "importtime", "-m", "genus", "--help"]
    done = subprocess.run(timed, capture_output=True, text=True, check=True)
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & {"torch", "numpy", "tokenizers", "safetensors", "genus.recipe"}
    commands = "quickstart list show table tokenizer prepare pretrain finetune evaluate fill export"
    for command in commands.split():
        assert f"\n  {command} " in done.stdout


def test_list_names_every_row(capsys: Captured) -> None:
    found = answer(capsys, "list")
    assert [name for member in found for name in member["sizes"]] == catalog.names()
    assert "bert/base (110 M)" in said(capsys, "list")


def test_show_gives_the_resolved_row_and_its_cost(capsys: Captured) -> None:
    found = answer(capsys, "show", "bert", "--set", "seed=3")
    assert found["recipe"] == catalog.load("bert", ["seed=3"]).written()
    assert found["cost"]["network"] == 109_482_240
    printed = said(capsys, "show", "bert")
    assert "109,482,240" in printed
    assert "    heads: 12\n" in printed


def test_show_diff_lists_what_differs(capsys: Captured) -> None:
    found = answer(capsys, "show", "bert/base", "--diff", "bert/large")
    assert {"path": "model.layers", "left": 12, "right": 24} in found
    assert "model.hidden" in said(capsys, "show", "bert/base", "--diff", "bert/large")


def test_words_and_a_store_serve_a_run(capsys: Captured, place: Place, tmp_path: Path) -> None:
    text = place.folder / "text.jsonl"
    words = answer(
        capsys, "tokenizer", "train", "bert/mini", text, "--out", tmp_path / "words", "--set", "tokens.vocab_size=200"
    )
    assert words["pieces"] <= 200
    store = answer(
        capsys, "prepare", text, "--tokenizer", tmp_path / "words", "--out", tmp_path / "store", "--workers", "1"
    )
    assert store["documents"] == 120
    assert store["sentences"] == 480
    assert store["bytes"] == sum(len(json.loads(line)["text"].encode()) for line in text.read_text().splitlines())
    arguments = ["pretrain", "bert/mini", tmp_path / "store", "--tokenizer", tmp_path / "words", *SMALL]
    arguments += ["--out", tmp_path / "run"]
    run = answer(capsys, *arguments)
    assert run["progress"]["step"] == 4
    assert not run["stopped"]
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
    assert answer(capsys, *arguments, "--resume")["progress"]["step"] == 4


def test_evaluate_measures_text(capsys: Captured, place: Place) -> None:
    found = answer(capsys, "evaluate", place.run, place.folder / "held-out.jsonl", "--run", "device=cpu")
    assert found["masked_lm/perplexity"] > 1
    assert 0 <= found["masked_lm/correct"] <= 1
    assert found["masked_lm/bits_per_byte"] > 0
    again = answer(capsys, "evaluate", place.run / "model", place.folder / "held-out.jsonl", "--run", "device=cpu")
    assert again == found


def test_fill_completes_each_mask(capsys: Captured, place: Place) -> None:
    found = answer(capsys, "fill", place.run, "Wave [MASK] sail ___.", "--top", "3")
    assert [len(mask) for mask in found] == [3, 3]
    for mask in found:
        assert mask == sorted(mask, key=lambda one: -one["probability"])
    assert "probability" not in said(capsys, "fill", place.run, "Wave [MASK].")


def test_export_keeps_every_tensor(capsys: Captured, place: Place, tmp_path: Path) -> None:
    found = answer(capsys, "export", place.run, "--out", tmp_path / "out")
    assert max(found["differences"].values()) < 1e-4
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (place.run / "model", tmp_path / "out"))
    assert ours.keys() == theirs.keys()
    assert all(bool((ours[name] == theirs[name]).all()) for name in ours)


def test_finetune_reports_and_its_model_answers(capsys: Captured, place: Place, tmp_path: Path) -> None:
    quick = ["--seeds", "2", "--set", "finetuning.epochs=2", "--set", "finetuning.max_length=32", "--run", "device=cpu"]
    report = answer(capsys, "finetune", place.run, place.folder / "task", "--out", tmp_path / "task", *quick)
    assert report["initial"] == "pretrained"
    assert report["summary"]["validation"]["accuracy"]["runs"] == 2
    assert (
        answer(capsys, "finetune", place.run, place.folder / "task", "--out", tmp_path / "r", "--random", *quick)[
            "initial"
        ]
        == "random"
    )
    table, answers = place.folder / "task" / "validation.jsonl", tmp_path / "answers.jsonl"
    found = answer(capsys, "evaluate", tmp_path / "task" / "model", table, "--answers", answers, "--run", "device=cpu")
    assert main(["evaluate", str(tmp_path / "task" / "model"), str(table), "--set", "finetuning.max_length=8"]) == 2
    assert "--set: is for text" in capsys.readouterr().err
    best = next(seed for seed in report["seeds"] if seed["seed"] == report["best_seed"])
    assert found["accuracy"] == pytest.approx(best["metrics"]["validation"]["accuracy"])
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert {row["predicted"] for row in rows} <= {"sea", "kitchen"}
    assert sum(row["predicted"] == row["label"] for row in rows) / len(rows) == pytest.approx(found["accuracy"])


def test_a_pretrained_model_is_where_to_start_from(capsys: Captured, place: Place, tmp_path: Path) -> None:
    text = place.folder / "text.jsonl"
    found = answer(capsys, "pretrain", "bert/mini", text, "--start", place.run, "--out", tmp_path / "more", *SMALL)
    assert found["progress"]["step"] == 4
    assert (tmp_path / "more" / "tokenizer" / "vocab.txt").read_text() == (
        place.run / "tokenizer" / "vocab.txt"
    ).read_text()

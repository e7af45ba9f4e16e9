"""Linformer from the command line: pretrained, interrupted and resumed, exported, completed with, fine-tuned."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from genus.cli import main

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ["wave", "tide", "harbor", "sail", "bread", "oven", "pepper", "spoon"]
RUN = ["--run", "device=cpu", "--run", "workers=0", "--run", "tracker=none", "--run", "log_every=1"]
SMALL = ["--set", "tokens.vocab_size=300", "--set", "stages=[{max_length=32, batch=4, micro_batch=4}]", *RUN]
SHARED = ["--set", "model.attention.sharing=key-value", "--set", "model.stack=SharedProjection"]


def write_texts(folder: Path) -> Path:
    """Write texts of one to eight sentences, and a task of telling first words apart."""
    lines = [" ".join(WORDS[(i * j + j) % 8] for j in range(5)).capitalize() + "." for i in range(200)]
    texts = [" ".join(lines[i : i + 1 + i % 8]) for i in range(120)]
    text = folder / "text.jsonl"
    text.write_text("".join(json.dumps({"text": each}) + "\n" for each in texts))
    (folder / "task").mkdir()
    for name, chosen in (("train", lines[:32]), ("validation", lines[32:48])):
        rows = [json.dumps({"text": line, "label": str(i % 2)}) + "\n" for i, line in enumerate(chosen)]
        (folder / "task" / f"{name}.jsonl").write_text("".join(rows))
    return text


def losses(run: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


@pytest.mark.parametrize("sharing", [[], SHARED], ids=["heads", "layers"])
def test_the_whole_way(tmp_path: Path, sharing: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = write_texts(tmp_path)
    chosen = ["linformer/tiny", str(text), *SMALL, *sharing, "--set", "budget.amount=6"]
    whole, halved, out = (tmp_path / name for name in ("whole", "halved", "out"))
    assert main(["pretrain", *chosen, "--out", str(whole)]) == 0, capsys.readouterr().err
    assert main(["pretrain", *chosen, "--out", str(halved), "--run", "checkpoint_every=3"]) == 0
    newest = max((halved / "checkpoints").iterdir(), key=lambda path: int(path.name.split("-")[1]))
    for file in sorted(newest.rglob("*")):
        file.unlink()
    newest.rmdir()
    assert [path.name for path in (halved / "checkpoints").iterdir()] == ["checkpoint-3"]
    assert main(["pretrain", *chosen, "--out", str(halved), "--run", "checkpoint_every=3", "--resume"]) == 0
    assert losses(halved) == losses(whole)
    weights, again = (load_file(run / "model" / "model.safetensors") for run in (whole, halved))
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert sum("projection" in name for name in weights) == (1 if sharing else 4)
    assert main(["export", str(whole), "--out", str(out)]) == 0, capsys.readouterr().err
    exported = load_file(out / "model.safetensors")
    assert all(torch.equal(weights[name], exported[name]) for name in exported)
    assert main(["fill", str(out), "Wave <mask> sail."]) == 0
    quick = ["--seeds", "1", "--set", "finetuning.epochs=1", "--set", "finetuning.max_length=32", *RUN[:2]]
    assert main(["finetune", str(out), str(tmp_path / "task"), "--out", str(tmp_path / "task-run"), *quick]) == 0
    table = str(tmp_path / "task" / "validation.jsonl")
    assert main(["evaluate", str(tmp_path / "task-run" / "model"), table, *RUN[:2]]) == 0


def test_a_text_longer_than_the_projection_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write_texts(tmp_path)
    longer = ["--set", "model.embedding.position.length=256", "--set", "stages.0.max_length=256"]
    assert main(["pretrain", "linformer/tiny", str(text), "--out", str(tmp_path / "run"), *longer]) == 2
    assert "max_length 256 is past the model's 128 positions" in capsys.readouterr().err

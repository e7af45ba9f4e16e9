"""What may not be read or written is told in one line that names it, and nobody is told that it is damaged."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from small_run import SMALL
from test_errors import refused

from genus.cli import main
from ordinary import ordinary_user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from small_run import Place

    Captured = pytest.CaptureFixture[str]


@contextmanager
def forbidden(path: Path, mode: int = 0) -> Iterator[None]:
    """Take the permissions of a file or a folder away while the block runs, and root's own with them."""
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        with ordinary_user():
            yield
    finally:
        path.chmod(before)


@pytest.fixture
def run(place: Place, tmp_path: Path) -> Path:
    """Return a copy of a run."""
    shutil.copytree(place.run, tmp_path / "run")
    return tmp_path / "run"


def pretrain(text: Path, out: Path, *more: str) -> list[object]:
    """Return the arguments of a small pretraining."""
    return ["pretrain", "bert/mini", text, "--out", out, *SMALL, *more]


def test_text(capsys: Captured, place: Place, tmp_path: Path) -> None:
    text = tmp_path / "texts" / "a.jsonl"
    text.parent.mkdir()
    shutil.copy(place.folder / "text.jsonl", text)
    commands: list[list[object]] = [
        pretrain(text, tmp_path / "out"),
        ["tokenizer", "train", "bert/mini", text, "--out", tmp_path / "out", "--set", "tokens.vocab_size=300"],
        ["prepare", text, "--tokenizer", place.run / "tokenizer", "--out", tmp_path / "out"],
        ["doctor", text],
        ["evaluate", place.run, text],
        ["finetune", place.run, text, "--label", "text", "--out", tmp_path / "out"],
    ]
    for command in commands:
        with forbidden(text):
            assert refused(capsys, 1, *command).endswith(f"{text}: cannot be read: Permission denied"), command
    for command in commands[:4]:
        command[command.index(text)] = text.parent
        with forbidden(text.parent):
            line = refused(capsys, 1, *command)
        assert line.startswith(f"{text.parent}: ")
        assert line.endswith("Permission denied")
    assert not (tmp_path / "out").exists()


def test_a_folder_within_the_text_is_named_with_the_reason(capsys: Captured, place: Place, tmp_path: Path) -> None:
    for folder in (tmp_path / "texts", tmp_path / "texts" / "more"):
        folder.mkdir()
        shutil.copy(place.folder / "text.jsonl", folder)
    with forbidden(tmp_path / "texts" / "more"):
        assert main([*map(str, pretrain(tmp_path / "texts", tmp_path / "out"))]) == 0
    assert "texts/more (Permission denied): not read (1 in all)" in capsys.readouterr().err


def test_a_folder_of_tables(capsys: Captured, place: Place, tmp_path: Path) -> None:
    shutil.copytree(place.folder / "task", tmp_path / "task")
    with forbidden(tmp_path / "task"):
        line = refused(capsys, 1, "finetune", place.run, tmp_path / "task", "--out", tmp_path / "out")
    assert line == f"{tmp_path / 'task'}: Permission denied"


def test_a_seed_that_may_not_be_read_is_not_trained_again(capsys: Captured, place: Place, tmp_path: Path) -> None:
    given = ["finetune", place.run, place.folder / "task", "--out", tmp_path / "out", "--set", "finetuning.epochs=1"]
    given += ["--seeds", "1", "--run", "workers=0"]
    assert main([*map(str, given)]) == 0
    with forbidden(tmp_path / "out" / "seed-0"):
        assert refused(capsys, 1, *given).endswith("seed-0/result.json: Permission denied")
    assert main([*map(str, given)]) == 0


@pytest.mark.parametrize("below", [True, False])
def test_a_folder_for_output(below: bool, capsys: Captured, place: Place, tmp_path: Path) -> None:
    text, folder = place.folder / "text.jsonl", tmp_path / "folder"
    folder.mkdir()
    out = folder / "out" if below else folder
    for command in (
        pretrain(text, out),
        ["tokenizer", "train", "bert/mini", text, "--out", out, "--set", "tokens.vocab_size=300"],
        ["prepare", text, "--tokenizer", place.run / "tokenizer", "--out", out],
        ["export", place.run, "--out", out],
        ["finetune", place.run, place.folder / "task", "--out", out, "--seeds", "1"],
        ["quickstart", "--out", out],
    ):
        with forbidden(folder, 0o500):
            line = refused(capsys, 1, *command)
        assert line.startswith(str(out)), command
        assert line.endswith("cannot be written: Permission denied"), command
    assert not [*folder.iterdir()]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "recipe.json", "tokenizer.json", "tokens.json"])
def test_a_file_of_a_model(name: str, capsys: Captured, place: Place, run: Path, tmp_path: Path) -> None:
    for command in (
        ["evaluate", run, place.folder / "held-out.jsonl"],
        ["export", run, "--out", tmp_path / "out"],
        ["fill", run, "a [MASK]"],
    ):
        with forbidden(run / "model" / name):
            line = refused(capsys, 1, *command)
        assert line.startswith(f"{run / 'model' / name}: cannot be read"), line
        assert "Permission denied" in line
        assert "damaged" not in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    ["recipe.json", "run.json", "metrics.jsonl", "tokenizer", "tokenizer/tokenizer.json", "store", "store/meta.json",
     "store/ids.bin", "checkpoints", "model"],
)  # fmt: skip
def test_a_file_of_a_run(name: str, capsys: Captured, place: Place, run: Path) -> None:
    """The run is refused, never begun anew, and goes on when it may."""
    command = pretrain(place.folder / "text.jsonl", run, "--resume", "--set", "budget.amount=6")
    with forbidden(run / name):
        line = refused(capsys, 1, *command)
    assert line.startswith(str(run / name)), line
    assert "Permission denied" in line
    assert "damaged" not in line
    assert main([*map(str, command)]) == 0
    assert "6 steps" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["recipe.json", "metrics.jsonl", "store/meta.json", "store/ids.bin", "model"])
def test_a_file_that_an_examination_reads(name: str, capsys: Captured, run: Path) -> None:
    row = {"step": 1, "stage": 0, "loss": 1.0, "tokens": 1, "epochs": 0.1}
    (run / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    with forbidden(run / name):
        line = refused(capsys, 1, "doctor", run)
    assert line.startswith(str(run / name)), line
    assert "Permission denied" in line
    assert "damaged" not in line


def test_files_that_are_named(capsys: Captured, place: Place, tmp_path: Path) -> None:
    """Prompts, recipes, tasks and answers."""
    (tmp_path / "a").write_text("a")
    for name in ("a.json", "a.toml"):
        (tmp_path / name).write_text("{}")
    for command in (
        ["generate", place.run, "--prompts", tmp_path / "a"],
        ["show", tmp_path / "a.json"],
        ["show", tmp_path / "a.toml"],
        ["evaluate", place.run, place.folder / "task", "--prompts", tmp_path / "a.toml"],
    ):
        path = next(word for word in command if isinstance(word, Path) and word.parent == tmp_path)
        with forbidden(path):
            assert refused(capsys, 1 if path.name == "a" else 2, *command).startswith(f"{path}: cannot be read")

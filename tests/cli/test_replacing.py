"""What stands where a command is to write: only what genus wrote is written over, and none of it stays."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from small_run import SMALL
from test_errors import refused

from genus.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from small_run import Place

    Captured = pytest.CaptureFixture[str]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def mine(folder: Path) -> None:
    folder.mkdir()
    (folder / "README.md").write_text("mine")


def a_file(folder: Path) -> None:
    folder.write_text("mine")


def foreign_model(folder: Path) -> None:
    mine(folder)
    (folder / "recipe.json").write_text('{"flour": 500}')
    (folder / "config.json").write_text('{"architectures": ["BertModel"]}')


@pytest.mark.parametrize("make", [mine, a_file, foreign_model])
def test_an_export_leaves_alone_what_is_not_its_own(make, capsys: Captured, place: Place, tmp_path: Path) -> None:
    make(tmp_path / "out")
    before = content(tmp_path)
    message = refused(capsys, 2, "export", place.run, "--out", tmp_path / "out")
    assert "out: is not empty, and not a model that genus wrote" in message
    assert content(tmp_path) == before


def test_an_export_goes_into_an_empty_folder_and_over_a_model_of_ours(place: Place, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    arguments = ["export", str(place.run), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    first = content(tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert main(arguments) == 0
    assert content(tmp_path / "out") == first | {"notes.txt": b"mine"}


@pytest.fixture(scope="module")
def runs(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of ELECTRA and one of ALBERT."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("electra", "albert"):
        out = str(folder / name)
        assert main(["pretrain", f"{name}/tiny", str(place.folder / "text.jsonl"), "--out", out, *SMALL]) == 0
    return folder


def test_nothing_of_an_older_export_stays(runs: Path, tmp_path: Path) -> None:
    out, alone = tmp_path / "out", tmp_path / "alone"
    assert main(["export", str(runs / "electra"), "--out", str(out)]) == 0
    assert {"vocab.txt", "generator/config.json"} <= content(out).keys()
    own = out / "other"
    shutil.copytree(runs / "albert" / "model", own)  # a model that lies there, but is none of its parts
    for folder in (out, alone):
        assert main(["export", str(runs / "albert"), "--out", str(folder)]) == 0
    assert content(own) == content(runs / "albert" / "model")
    shutil.rmtree(own)
    assert content(out) == content(alone)
    assert not (out / "generator").exists()


def test_a_tokenizer_is_trained_into_a_folder_of_its_own(
    capsys: Captured, place: Place, runs: Path, tmp_path: Path
) -> None:
    out, text = tmp_path / "out", place.folder / "text.jsonl"
    arguments = [text, "--out", out, "--set", "tokens.vocab_size=200"]
    for folder in (place.run, place.run / "model"):
        shutil.copytree(folder, out)
        before = content(out)
        message = refused(capsys, 2, "tokenizer", "train", "bert", *arguments)
        assert "out: is not empty, and not a tokenizer alone that genus wrote" in message
        assert content(out) == before
        shutil.rmtree(out)
    names = []
    for recipe in ("bert", "albert"):
        assert main(["tokenizer", "train", recipe, *map(str, arguments)]) == 0
        names.append(content(out).keys())
    assert "vocab.txt" in names[0]
    assert "spiece.model" in names[1]
    assert "vocab.txt" not in names[1]

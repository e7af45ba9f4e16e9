"""The mean of a run's last checkpoints as a model, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from genus import catalog, pipeline
from genus.cli import main
from genus.errors import GenusError, UsageError
from genus.export.average import average_checkpoints
from genus.export.folder import load, save
from small import RUN, documents, fields, shrunk

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

STEPS = [4, 8, 10]
"""Of the checkpoints of the runs here."""


@pytest.fixture(scope="module", params=["transformer", "electra", "distilbert"])
def run(request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ten steps: one head, a model beside the model, a teacher that no checkpoint holds."""
    folder = tmp_path_factory.mktemp(request.param)
    recipe = shrunk(catalog.load(request.param)).override("optimizer.lr", 0.01)
    teacher = None
    if request.param == "distilbert":
        teacher = folder / "teacher"
        tokenizer = recipe.tokens.train(documents())
        row = replace(shrunk(catalog.load("bert")), tokens=recipe.tokens)
        save(teacher, *pipeline.new_learner(row, tokenizer), tokenizer)
    pipeline.pretrain(recipe, [corpus], folder / "run", RUN, fields=fields(recipe), teacher=teacher)
    return folder / "run"


def checkpoint(run: Path, step: int) -> dict[str, Tensor]:
    return load_file(run / "checkpoints" / f"checkpoint-{step}" / "model.safetensors")


@pytest.mark.parametrize("last", [1, 2, 3])
def test_the_weights_are_the_means(run: Path, last: int, tmp_path: Path) -> None:
    assert average_checkpoints(run, last, tmp_path / "mean") == STEPS[-last:]
    made = load(tmp_path / "mean")
    kept = [checkpoint(run, step) for step in STEPS[-last:]]
    names = {f"network.{name}" for name, _ in made.learner.network.named_parameters()}
    assert names <= kept[0].keys()
    for name, tensor in made.learner.tensors().items():
        expected = torch.stack([one[name] for one in kept]).double().mean(0).float()
        torch.testing.assert_close(tensor.detach(), expected, rtol=0, atol=0)
    if last > 1:
        assert any(not torch.equal(tensor, kept[-1][name]) for name, tensor in made.learner.tensors().items())
    assert "of the steps" in (tmp_path / "mean" / "README.md").read_text()


def test_of_one_it_is_the_model_that_the_run_wrote(run: Path, tmp_path: Path) -> None:
    average_checkpoints(run, 1, tmp_path / "mean")
    made, own = load(tmp_path / "mean"), load(run / "model")
    assert made.recipe == own.recipe
    assert made.learner.tensors().keys() == own.learner.tensors().keys()
    assert all(torch.equal(tensor, own.learner.tensors()[name]) for name, tensor in made.learner.tensors().items())


@pytest.fixture
def copied(run: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return shutil.copytree(run, tmp_path / "copied")


def test_fewer_checkpoints_are_refused(copied: Path, tmp_path: Path) -> None:
    told = r"has 3 checkpoints, of 4, 8, 10 steps, not 5; a run keeps as many as --run keep=5 .* or take --last 3"
    with pytest.raises(UsageError, match=told):
        average_checkpoints(copied, 5, tmp_path / "mean")
    shutil.rmtree(copied / "checkpoints")
    with pytest.raises(UsageError, match="has no checkpoint, not 5"):
        average_checkpoints(copied, 5, tmp_path / "mean")
    with pytest.raises(UsageError, match="expected at least 1 checkpoint, got 0"):
        average_checkpoints(copied, 0, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_damaged_checkpoints_are_refused(copied: Path, tmp_path: Path) -> None:
    path = copied / "checkpoints" / "checkpoint-8" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(GenusError, match=r"checkpoint-8: model.safetensors is not as it was written; take --last 1"):
        average_checkpoints(copied, 3, tmp_path / "mean")
    average_checkpoints(copied, 1, tmp_path / "mean")
    (copied / "checkpoints" / "checkpoint-10" / "state.json").unlink()
    with pytest.raises(GenusError, match=r"checkpoint-10: .* resume the run"):
        average_checkpoints(copied, 1, tmp_path / "other")


def test_checkpoints_of_another_model_are_refused(copied: Path, tmp_path: Path) -> None:
    table = json.loads((copied / "recipe.json").read_text())
    model = table["model"].get("encoder", table["model"])
    for wider in (model, table["model"].get("decoder", {})):
        wider["feedforward"] = {**model["feedforward"], "size": 96}
    (copied / "recipe.json").write_text(json.dumps(table))
    with pytest.raises(GenusError, match=r"is of another model than recipe\.json"):
        average_checkpoints(copied, 2, tmp_path / "mean")


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mean"
    assert main(["average", str(run), "--last", "2", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"folder": str(out), "steps": STEPS[-2:]}
    assert main(["average", str(run), "--last", "3", "--out", str(out)]) == 0
    assert "the mean of 3 checkpoints, of the steps 4, 8, 10" in capsys.readouterr().out
    assert main(["average", str(out), "--out", str(tmp_path / "again")]) == 2
    assert "holds a model, and only a pretraining run has checkpoints" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert main(["average", str(run), "--last", "2", "--out", str(tmp_path / "mine")]) == 2
    assert "is not empty" in capsys.readouterr().err

"""Folders of containers: every file that is copied is there, and what is run are commands of this version."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer.main

from genus.cli import app, main
from genus.cli.folders import model_name
from genus.cli.serve import _named
from genus.export.folder import load
from open_inference import HEADS
from serving import running, small_model

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
IMAGES = {"python:3.12-slim"}


def steps(folder: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with their arguments."""
    lines = (folder / "Dockerfile").read_text().splitlines()
    found = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    return [(name, arguments) for name, arguments in found]


def only(folder: Path, name: str) -> str:
    (found,) = (arguments for one, arguments in steps(folder) if one == name)
    return found


def exported(model: Path, out: Path) -> Path:
    assert main(["export", str(model), "--out", str(out), "--format", "docker"]) == 0
    return out


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("models") / "Sst 2", objective=HEADS["labels"])


def test_what_is_copied_is_there_and_is_the_model(model: Path, tmp_path: Path) -> None:
    out = exported(model, tmp_path / "image")
    assert only(out, "FROM") in IMAGES
    for name, arguments in steps(out):
        if name == "COPY":
            *sources, target = arguments.split()
            assert all((out / source).exists() for source in sources)
            assert target == "/model"
    ignored = (out / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    assert {one.removeprefix("!") for one in ignored[1:]} == set(only(out, "COPY").split()[:-1])
    assert {one.name for one in out.iterdir()} == {"Dockerfile", ".dockerignore", "README.md", "model"}
    theirs, ours = load(out / "model"), load(model)
    assert theirs.recipe == ours.recipe
    assert all((theirs.learner.state_dict()[name] == value).all() for name, value in ours.learner.state_dict().items())
    assert len((out / "README.md").read_text().splitlines()) <= 6


def test_the_command_is_one_of_ours(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = exported(model, tmp_path / "image")
    program, command, *arguments = json.loads(only(out, "CMD"))
    assert (program, command) == ("genus", "serve")
    (source, *_) = arguments
    monkeypatch.chdir(out)  # the container's /model is the model folder
    context = typer.main.get_command(app).commands[command].make_context(command, arguments)  # type: ignore[attr-defined]
    assert context.params["models"] == ["Sst_2=/model"]
    assert (context.params["host"], context.params["port"]) == ("0.0.0.0", int(only(out, "EXPOSE")))
    assert _named(source.replace("/model", str(out / "model"))) == ("Sst_2", out / "model")


def test_version_and_user(model: Path, tmp_path: Path) -> None:
    out = exported(model, tmp_path / "image")
    arguments = [text for name, text in steps(out) if name == "ARG"]
    assert arguments[1] == f'GENUS="genus[serve]=={PROJECT["version"]}"'
    assert {"serve", "export", "thai"} <= PROJECT["optional-dependencies"].keys()
    assert only(out, "USER") == "genus"
    order = [name for name, _ in steps(out)]
    assert order.index("USER") < order.index("CMD")
    for line in (out / "README.md").read_text().splitlines():
        if line.startswith("    docker"):
            image = [word for word in shlex.split(line, comments=True) if "sst" in word]
            assert image == ["sst_2"]


def test_health_is_asked_as_the_server_tells_it(model: Path, tmp_path: Path) -> None:
    out = exported(model, tmp_path / "image")
    program, *arguments = json.loads(only(out, "HEALTHCHECK").partition(" CMD ")[2])
    assert program == "python"
    with running({"model": model}) as address:
        _, port = address.split(":")
        asked = [one.replace(only(out, "EXPOSE"), port) for one in arguments]
        assert any(port in one for one in asked)
        assert subprocess.run([sys.executable, *asked], check=False).returncode == 0
    assert subprocess.run([sys.executable, *asked], check=False, stderr=subprocess.DEVNULL).returncode == 1


def test_a_graph_needs_its_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    folder, graph = small_model(tmp_path / "labels", objective=HEADS["labels"]), tmp_path / "graph"
    assert main(["export", str(folder), "--out", str(graph), "--format", "onnx"]) == 0
    out = exported(graph, tmp_path / "image")
    assert f'GENUS="genus[serve,export]=={PROJECT["version"]}"' in [text for name, text in steps(out) if name == "ARG"]
    assert (out / "model" / "model.onnx").read_bytes() == (graph / "model.onnx").read_bytes()
    assert not (out / "model" / "model.safetensors").exists()


def test_only_what_genus_wrote_is_written_over(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = exported(model, tmp_path / "image")
    (out / "notes.txt").write_text("mine")
    exported(small_model(tmp_path / "other", objective=HEADS["several"]), out)
    assert load(out / "model").recipe.objectives == (HEADS["several"],)
    assert (out / "notes.txt").read_text() == "mine"
    (out / "Dockerfile").write_text("FROM scratch\n")
    assert main(["export", str(model), "--out", str(out), "--format", "docker"]) == 2
    assert "is not empty, and not a folder of a container that genus wrote" in capsys.readouterr().err
    assert (out / "Dockerfile").read_text() == "FROM scratch\n"
    assert load(out / "model").recipe.objectives == (HEADS["several"],)


def test_a_model_at_the_root_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`genus serve /model`, where no folder's name says whose it is."""
    monkeypatch.setattr(Path, "resolve", lambda path: path)
    assert model_name(Path("/model")) == "model"
    assert model_name(Path("/runs/sst2/model")) == "sst2"
    assert model_name(Path("/runs/sst2")) == "sst2"

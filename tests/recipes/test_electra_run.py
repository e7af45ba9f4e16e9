"""ELECTRA from text to a model folder: resumed bit for bit, started from folders, measured, compiled."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import torch

from genus import catalog, pipeline
from genus.cli import main
from genus.export.folder import load
from genus.model.skeleton import skeleton
from small import RUN, losses, rows, shrunk

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner
    from genus.recipe import Recipe

SUMMATION = 1e-5
"""Relative; float32 sums are taken in another order by compiled code."""


def small(*more: str) -> Recipe:
    """Return electra/small shrunk, with dropout, so that there is more to draw than samples."""
    recipe = shrunk(catalog.load("electra/small"))
    for setting in ("model.dropout=0.1", "model.embedding.dropout=0.1", *more):
        recipe = recipe.override(*setting.split("="))
    return recipe


STILL = ("model.dropout=0.0", "model.embedding.dropout=0.0")


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "electra"
    pipeline.pretrain(small(), [corpus], folder, RUN)
    return folder


def same(one: Learner, other: Learner) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def test_a_stopped_run_resumes_as_if_it_never_stopped(trained: Path, corpus: Path, tmp_path: Path) -> None:
    """From checkpoint 4 of 10: losses, evaluations and both models are the same, bit for bit."""
    shutil.copytree(trained, tmp_path / "run")
    for step in (8, 10):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"checkpoint-{step}")
    shutil.rmtree(tmp_path / "run" / "model")
    again = pipeline.pretrain(small(), [corpus], tmp_path / "run", RUN, resume=True)
    assert losses(tmp_path / "run") == losses(trained)
    last = rows(trained)[-1]
    name = "replaced_token_detection/correct"
    assert again.progress.evaluation[name] == last[f"held_out/{name}"]
    assert again.progress.evaluation["loss"] == last["held_out/loss"]
    assert same(load(tmp_path / "run" / "model").learner, load(trained / "model").learner)


def test_a_checkpoint_holds_every_parameter_once(trained: Path) -> None:
    from safetensors.torch import load_file

    saved = load_file(trained / "checkpoints" / "checkpoint-10" / "model.safetensors")
    with skeleton():
        learner = catalog.load(trained).learner()
    assert saved.keys() == dict(learner.named_parameters()).keys()
    assert [name for name in saved if name.endswith("tokens.weight")] == ["network.embed.tokens.weight"]


def test_training_goes_on_from_a_model_with_its_generator(
    trained: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = small("budget.amount=40", *STILL)
    pipeline.pretrain(longer, [corpus], tmp_path / "first", RUN)
    pipeline.pretrain(small(), [corpus], tmp_path / "second", RUN, start=tmp_path / "first" / "model")
    fresh, last, first = losses(trained)[0], losses(tmp_path / "first")[-1], losses(tmp_path / "second")[0]
    assert abs(first - last) < 0.3 * (fresh - last)
    assert "afresh" not in capsys.readouterr().err


def test_training_goes_on_without_the_generator_and_says_so(
    trained: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "model", tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "generator")
    recipe = small("budget.amount=1")
    pipeline.pretrain(recipe, [corpus], tmp_path / "run", RUN, start=tmp_path / "bare")
    said = capsys.readouterr().err
    assert f"{tmp_path / 'bare'}: has no weights for heads.masked_lm_generator, which start from random numbers" in said
    assert list(load(tmp_path / "run" / "model").learner.heads) == ["masked_lm_generator", "replaced_token_detection"]


def test_training_goes_on_with_the_generator_of_the_folder(trained: Path, corpus: Path, tmp_path: Path) -> None:
    """Whatever size the row would give it."""
    recipe = small("budget.amount=1", "objectives.0.generator.width=0.5")
    pipeline.pretrain(recipe, [corpus], tmp_path / "run", RUN, start=trained / "model")
    choices = catalog.load(tmp_path / "run").objectives[0].to_json()
    assert choices["generator"]["width"] == 0.25


def test_measured_on_the_command_line(
    trained: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The generator's accuracy and perplexity, the discriminator's accuracy; the same numbers at every call."""
    command = ["evaluate", str(trained), str(corpus), "--run", "workers=0", "--run", "evaluate_batches=4", "--json"]
    found = []
    for _ in range(2):
        torch.rand(3)
        assert main(command) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    names = {
        "masked_lm/correct",
        "masked_lm/perplexity",
        "masked_lm/bits_per_byte",
        "replaced_token_detection",
        "replaced_token_detection/correct",
        "replaced_token_detection/share",
    }
    assert names <= found[0].keys()
    assert found[0]["loss"] == pytest.approx(found[0]["masked_lm"] + 50 * found[0]["replaced_token_detection"])
    shutil.copytree(trained / "model", tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "generator")
    assert main(["evaluate", str(tmp_path / "bare"), str(corpus)]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("genus: error: nothing replaces tokens here")


def test_a_larger_generator_is_refused_on_the_command_line(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["pretrain", "electra/tiny", str(corpus), "--out", str(out), "--set", "objectives.0.generator.width=2"]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "a generator may not be larger than the model that judges it" in line
    assert not out.exists()


def test_an_export_is_a_pair_too(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(trained), "--out", str(tmp_path / "out"), "--json"]) == 0
    differences = json.loads(capsys.readouterr().out)["differences"]
    assert {"hidden", "replaced_token_detection", "generator/hidden", "generator/masked_lm"} <= differences.keys()
    assert same(load(tmp_path / "out").learner, load(trained / "model").learner)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # PyTorch's compiler imports what it deprecates
def test_compiled_is_near(corpus: Path, tmp_path: Path) -> None:
    """The generator's layers are compiled too; samples are drawn outside, so that they are the same."""
    found = []
    for compiled in (False, True):
        folder = tmp_path / str(compiled)
        recipe = small("budget.amount=3", "model.layers=1", *STILL)
        pipeline.pretrain(recipe, [corpus], folder, RUN.override("compile", compiled))
        found.append(losses(folder))
    assert found[0] == pytest.approx(found[1], rel=SUMMATION)

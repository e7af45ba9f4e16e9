"""Runs of which each process holds pieces: optimizers, memory, checkpoints in other hands, and processes that end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import several_processes
import torch
from safetensors.torch import load_file
from toy_run import losses

from forked import ranks
from genus.model.block import all_sublayers
from genus.optim.adafactor import Adafactor
from genus.optim.adagrad import Adagrad
from genus.optim.adamw import AdamW
from genus.optim.lamb import LAMB
from genus.optim.lion import Lion
from genus.optim.nvlamb import NVLAMB
from genus.train.parallel.replicated import Replicated
from genus.train.parallel.sharded import Sharded
from genus.train.parallel.tensor import TensorParallel

if TYPE_CHECKING:
    from genus.optim import Optimizer
    from genus.train.parallel import Parallel

LOSSES, SUMMATION = 1e-6, 1e-5
"""Relative; float32 losses and weights, of which gradients are summed in another order."""
HALF = 1e-3
"""The same in float16: a unit of its 11 bits, on numbers near 1."""
MINUTE = 60.0
OPTIMIZERS: dict[str, Optimizer] = {
    "adamw": AdamW(lr=1e-3, eps=1e-3),
    "uncorrected": AdamW(lr=1e-3, eps=1e-3, bias_correction=False),
    "by-tensor": AdamW(lr=1e-3, eps=1e-3, clip_norm=0.05, clip_by="tensor"),
    "lamb": LAMB(lr=1e-3, eps=1e-3),
    "nvlamb": NVLAMB(lr=1e-3, eps=1e-3),
    "adafactor": Adafactor(lr=1e-3, floor=1e-6),
    "lion": Lion(lr=1e-4),
    "adagrad": Adagrad(lr=1e-3, initial=1e-3),
}
"""Each divides gradients by themselves; what is added to the divisor keeps rounding small where gradients are."""
TWO: dict[str, Parallel] = {"stage 3": Sharded(), "split": TensorParallel()}
FOUR: dict[str, Parallel] = {"split and sharded": TensorParallel(data=Sharded()), "replicas": Sharded(replicas=2)}


def torchrun(processes: int, scene: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    script = [str(Path(several_processes.__file__)), scene, str(folder)]
    return subprocess.run([*command, *options, *script], capture_output=True, text=True, timeout=600)


def written(ways: dict[str, Parallel]) -> dict[str, Any]:
    return {name: way.to_json() for name, way in ways.items()}


def optimized(processes: int, ways: dict[str, Parallel], folder: Path) -> Path:
    choices = {kind: choice.to_json() for kind, choice in OPTIMIZERS.items()}
    (folder / "optimizers.json").write_text(json.dumps([written(ways), choices]))
    scenes = "optimizers,overflow,tokens" if processes == 2 else "optimizers"
    ranks(processes, "several_processes", scenes, folder)
    return folder


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return optimized(2, TWO, tmp_path_factory.mktemp("of-two"))


@pytest.fixture(scope="module")
def of_four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return optimized(4, FOUR, tmp_path_factory.mktemp("of-four"))


@pytest.mark.parametrize(
    ("processes", "way"),
    [(2, name) for name in TWO] + [pytest.param(4, name, marks=pytest.mark.slow) for name in FOUR],
)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_optimizer_makes_the_steps_of_one_process(
    kind: str, processes: int, way: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue("of_two" if processes == 2 else "of_four")
    found = torch.load(folder / f"{way}-{kind}.found", weights_only=False)
    one = several_processes.some_steps(OPTIMIZERS[kind], json.dumps(Replicated().to_json()))
    assert found["norms"] == pytest.approx(one["norms"], rel=SUMMATION)
    assert found["weights"].keys() == one["weights"].keys()
    for name, weight in one["weights"].items():
        torch.testing.assert_close(found["weights"][name], weight, rtol=SUMMATION, atol=SUMMATION, msg=name)


@pytest.mark.parametrize("way", [*TWO, "sequence"])
@pytest.mark.parametrize(
    ("scale", "factors"),
    [("loss_scale", (2.0**16, 2.0**15)), ("gradient_scale/smallest", (2.0**13.001, 2.0**13.002))],
    ids=["loss", "blocks"],
)
def test_processes_skip_an_update_together(scale: str, factors: tuple[float, float], way: str, of_two: Path) -> None:
    """One process's gradient of the embeddings overflows; losses and weights are those of one process that skips."""
    name = scale.partition("/")[0]
    found = [torch.load(of_two / f"{way}-{name}-{rank}.found", weights_only=False) for rank in range(2)]
    one = several_processes.half_steps(json.dumps(Replicated().to_json()), scale)
    for own in (*found, one):
        assert own["skipped"] == [False, True, False, False]
        assert own["scale"][:2] == pytest.approx(factors)
        assert own["scale"] == pytest.approx(one["scale"])
        assert own["loss"] == pytest.approx(one["loss"], rel=HALF)
        for key, weight in one["weights"].items():
            torch.testing.assert_close(own["weights"][key], weight, rtol=0.0, atol=HALF, msg=key)


@pytest.mark.parametrize("way", several_processes.SEQUENCES)
def test_tokens_that_processes_do_not_divide_are_filled_up(way: str, of_two: Path) -> None:
    """33 tokens of two processes, and 32: losses and weights of one process; kept alike by both."""
    one = several_processes.token_steps(Replicated())
    for rank in range(2):
        found = torch.load(of_two / f"{way}-tokens-{rank}.found", weights_only=False)
        assert found["loss"] == pytest.approx(one["loss"], rel=LOSSES)
        for name, weight in one["weights"].items():
            torch.testing.assert_close(found["weights"][name], weight, rtol=SUMMATION, atol=SUMMATION, msg=name)


def test_a_process_keeps_its_share_of_activations(of_two: Path) -> None:
    """Split tokens save what split matrices keep whole: inputs of norms and of sub-layers, as `genus plan` counts.

    Korthikanti et al. 2022, equations 2 and 4; of 33 tokens a process has 17, of 32 it has 16.
    """
    matrices, sequence = (
        torch.load(of_two / f"{way}-tokens-0.found", weights_only=False)["bytes"] for way in several_processes.SEQUENCES
    )
    model = several_processes.LARGER
    branches = all_sublayers(model, {"tokens": 16}).branches * model.layers
    for split, tokens in zip(matrices, sequence, strict=True):
        assert split - tokens == pytest.approx(4 * 2 * branches * 16, rel=0.02)  # beside statistics of norms


@pytest.mark.parametrize("way", several_processes.SEQUENCES)
def test_layers_are_computed_again_with_the_same_draws(way: str, of_two: Path) -> None:
    for rank in range(2):
        found = torch.load(of_two / f"{way}-tokens-{rank}.found", weights_only=False)
        assert all(torch.equal(a, b) for a, b in zip(found["nothing"], found["layers"], strict=True))


def test_each_process_drops_out_its_own_tokens(of_two: Path) -> None:
    found = [torch.load(of_two / f"sequence-tokens-{rank}.found", weights_only=False)["drawn"] for rank in range(2)]
    assert all(own.shape == (16, 64) for own in found)
    assert all(0.4 < float(own.float().mean()) < 0.6 for own in found)
    assert 0.4 < float((found[0] == found[1]).float().mean()) < 0.6


def test_a_process_holds_its_share_of_the_memory(of_two: Path) -> None:
    """Of stage 3, and within 10 %: half of weights, gradients and moments."""
    one = several_processes.some_steps(OPTIMIZERS["adamw"], json.dumps(Replicated().to_json()))["bytes"]
    own = torch.load(of_two / "stage 3-adamw.found", weights_only=False)["bytes"]
    assert own.keys() == {"weights", "gradients", "moments"}
    for name, size in one.items():
        assert own[name] == pytest.approx(size / 2, rel=0.1), name


def test_checkpoints_are_read_in_other_hands(tmp_path: Path) -> None:
    """A run of two processes in pieces goes on in one, in two that split matrices, and the other way round."""
    several_processes.train(tmp_path / "alone", json.dumps(Replicated().to_json()))
    wanted = losses(tmp_path / "alone")
    cut(tmp_path / "alone", tmp_path / "from one", 4)
    runs = [("stage 3", "whole", False), ("stage 3", "from one", True)]
    go(tmp_path, 2, runs)
    near(losses(tmp_path / "whole"), wanted)
    near(losses(tmp_path / "from one"), wanted)
    names = {path.name for path in (tmp_path / "whole" / "checkpoints" / "checkpoint-8").iterdir()}
    assert {"model-00001-of-00002.safetensors", "optimizer-00002-of-00002.safetensors", "manifest.json"} <= names
    cut(tmp_path / "whole", tmp_path / "split", 4)
    go(tmp_path, 2, [("split", "split", True)])
    near(losses(tmp_path / "split"), wanted)
    cut(tmp_path / "split", tmp_path / "back", 8)
    several_processes.train(tmp_path / "back", json.dumps(Replicated().to_json()), resume=True)
    near(losses(tmp_path / "back"), wanted)
    same_weights(tmp_path, "whole", "split")


@pytest.mark.slow
def test_checkpoints_are_read_by_another_number_of_processes(tmp_path: Path) -> None:
    several_processes.train(tmp_path / "alone", json.dumps(Replicated().to_json()))
    wanted = losses(tmp_path / "alone")
    go(tmp_path, 2, [("stage 3", "whole", False)])
    for name in FOUR:
        cut(tmp_path / "whole", tmp_path / name, 4)
    go(tmp_path, 4, [(name, name, True) for name in FOUR])
    for name in FOUR:
        near(losses(tmp_path / name), wanted)
        cut(tmp_path / name, tmp_path / f"{name}, back", 8)
    go(tmp_path, 2, [("stage 3", f"{name}, back", True) for name in FOUR])
    for name in FOUR:
        near(losses(tmp_path / f"{name}, back"), wanted)
    same_weights(tmp_path, "whole", *FOUR)


def go(folder: Path, processes: int, runs: list[tuple[str, str, bool]]) -> None:
    """Make runs in one start of several processes."""
    ways = TWO | FOUR
    (folder / "runs.json").write_text(json.dumps([(ways[way].to_json(), name, resume) for way, name, resume in runs]))
    ranks(processes, "several_processes", "runs", folder)


def cut(run: Path, copy: Path, step: int) -> None:
    """Copy a run as if it had ended after the checkpoint of a step."""
    shutil.copytree(run, copy)
    for path in (copy / "checkpoints").iterdir():
        if int(path.name.rpartition("-")[2]) > step:
            shutil.rmtree(path)


def near(found: list[tuple[int, float]], wanted: list[tuple[int, float]]) -> None:
    assert [step for step, _ in found] == [step for step, _ in wanted]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in wanted], rel=LOSSES)


def same_weights(folder: Path, *names: str) -> None:
    """Check what the runs published against the one process's last checkpoint."""
    wanted = load_file(folder / "alone" / "checkpoints" / "checkpoint-10" / "model.safetensors")
    for name in names:
        found = load_file(folder / name / "published.safetensors")
        assert found.keys() == wanted.keys()
        for tensor, value in wanted.items():
            torch.testing.assert_close(found[tensor], value, rtol=SUMMATION, atol=SUMMATION, msg=tensor)


def told_of_the_dead(done: subprocess.CompletedProcess[str]) -> bool:
    """Return whether the other process said in one line that one has ended."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("genus: error: ")]
    return len(lines) == 1 and "process 0: another process of the run has ended" in lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("way", TWO)
def test_a_killed_process_ends_all(way: str, tmp_path: Path) -> None:
    (tmp_path / "way.json").write_text(json.dumps(TWO[way].to_json()))
    done = torchrun(2, "killed", tmp_path)
    assert time.time() - float((tmp_path / "moment").read_text()) < MINUTE
    assert done.returncode == 1
    assert told_of_the_dead(done)
    assert done.stderr.count("Traceback") == 1  # that of torchrun


@pytest.mark.parametrize("way", ["stage 3", pytest.param("split", marks=pytest.mark.slow)])
def test_a_killed_process_is_told_and_the_run_goes_on(way: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "way.json").write_text(json.dumps(TWO[way].to_json()))
    done = torchrun(2, "killed", tmp_path / "run", "--max-restarts=1")
    assert done.returncode == 0, done.stderr[-6000:]
    assert told_of_the_dead(done)
    assert "Traceback" not in done.stderr
    several_processes.train(tmp_path / "alone", json.dumps(Replicated().to_json()))
    near(losses(tmp_path / "run"), losses(tmp_path / "alone"))


@pytest.mark.slow
def test_a_full_disk_of_one_process_ends_all(tmp_path: Path) -> None:
    (tmp_path / "way.json").write_text(json.dumps(TWO["stage 3"].to_json()))
    done = torchrun(2, "full disk", tmp_path)
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if line.startswith("genus: error: ")]
    assert told
    assert all("process 1: No space left on device" in line for line in told)
    assert done.stderr.count("Traceback") == 1  # that of torchrun
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"checkpoint-2"}


def test_processes_that_were_started_otherwise_are_refused(tmp_path: Path) -> None:
    ranks(2, "several_processes", "disagreement", tmp_path)
    told = {(tmp_path / f"told-{rank}").read_text() for rank in range(2)}
    assert told == {
        "process 1 has other recipe than process 0; start all processes with the same command and the same installation"
    }

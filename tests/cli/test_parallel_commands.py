"""`genus pretrain` by several processes of `torchrun`, and what is refused before anything is read."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from small_run import SMALL, Place

from genus.cli import main
from genus.export.folder import load
from small import losses

if TYPE_CHECKING:
    from pathlib import Path

LOSSES, SUMMATION = 1e-6, 1e-5
"""Relative; float32 losses and weights, of which gradients are summed in another order."""
SEVERAL = [*SMALL, "--set", "stages=[{max_length=32, batch=8, micro_batch=2}]", "--run", "log_every=1"]
"""Four micro-batches a step."""


def started(processes: int, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    given = ["--runtime" if one == "--run" else one for one in arguments]
    return subprocess.run([*torchrun, "-m", "genus", *given], capture_output=True, text=True, timeout=600)


def pretraining(place: Place, out: Path, *more: str) -> list[str]:
    return ["pretrain", "bert/mini", str(place.folder / "text.jsonl"), "--out", str(out), *SEVERAL, *more]


@pytest.mark.slow
def test_a_run_in_pieces_and_its_continuation_with_split_matrices(place: Place, tmp_path: Path) -> None:
    done = started(2, pretraining(place, tmp_path / "several", "--run", "parallel=Sharded"))
    assert done.returncode == 0, done.stderr[-6000:]
    again = ["--resume", "--set", "budget.amount=8", "--run", "parallel=TensorParallel"]
    done = started(2, pretraining(place, tmp_path / "several", *again))
    assert done.returncode == 0, done.stderr[-6000:]
    assert len(losses(tmp_path / "several")) == 8
    assert (
        load(tmp_path / "several" / "model").learner.tensors().keys()
        == load(place.run / "model").learner.tensors().keys()
    )


@pytest.mark.slow
def test_the_model_in_pieces_is_the_model_of_one(place: Place, tmp_path: Path) -> None:
    assert main(pretraining(place, tmp_path / "alone")) == 0
    done = started(
        2, pretraining(place, tmp_path / "several", "--run", "parallel=Sharded", "--run", "parallel.stage=1")
    )
    assert done.returncode == 0, done.stderr[-6000:]
    assert losses(tmp_path / "several") == pytest.approx(losses(tmp_path / "alone"), rel=LOSSES)
    one, found = (load(tmp_path / name / "model").learner.tensors() for name in ("alone", "several"))
    for name, tensor in one.items():
        torch.testing.assert_close(found[name], tensor, rtol=SUMMATION, atol=SUMMATION, msg=name)


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("bert/mini", ["parallel=TensorParallel"], "1 process cannot be divided into groups of 2; take a divisor"),
        ("bert/mini", ["parallel=Sharded", "parallel.replicas=2"], "2 replicas cannot be made of 1 process;"),
        ("reformer/tiny", ["parallel=Sharded"], "cannot be sharded, as reversible layers compute their gradients"),
        ("bert/mini", ["parallel=Sharded", "parallel.offload=true"], "all lies in the CPU's memory already"),
        ("bert/mini", ["parallel=TensorParallel", "parallel.data=TensorParallel"], "matrices are split already"),
        ("bert/mini", ["parallel.stage=4"], "Replicated has no choice 'stage'"),
    ],
)
def test_what_does_not_fit_is_one_line(
    recipe: str, settings: list[str], message: str, place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [word for setting in ["device=cpu", *settings] for word in ("--run", setting)]
    assert main(["pretrain", recipe, str(place.folder / "text.jsonl"), "--out", str(tmp_path / "run"), *own]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_fine_tuning_keeps_models_whole(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["finetune", str(place.run), str(place.folder / "task"), "--out", str(tmp_path / "tuned")]
    assert main([*command, "--run", "device=cpu", "--run", "parallel=Sharded"]) == 2
    assert "fine-tuning keeps the whole model in every process" in capsys.readouterr().err

"""What waits for what: the host not for the device, processes not in a collective while files are made."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from toy_run import RUN, ToyFeed, toy_learner, toy_train

from genus.errors import GenusError
from genus.optim.adamw import AdamW
from genus.optim.lamb import LAMB
from genus.recipe import Budget
from genus.run_folder import RunFolder
from genus.train.checkpoint import Checkpoints
from genus.train.data import MicroBatch, TrainStage
from genus.train.step import TrainStep
from genus.train.world import World
from genus.train.writer import BackgroundWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.optim import Optimizer

PREPARATION = """
import os, sys, time
from datetime import timedelta
import torch.distributed.distributed_c10d as c10d
c10d.default_pg_timeout = timedelta(seconds=3)
from genus.train.run import Run
from genus.train.world import init_distributed, rank_zero_first
for number in range(2):
    with rank_zero_first():
        if os.environ["RANK"] == "0":
            time.sleep(4)
            open(f"{sys.argv[1]}/{number}", "w").close()
        assert os.path.exists(f"{sys.argv[1]}/{number}")
world = init_distributed(Run(device="cpu"))
assert world.sum([1.0, world.rank]) == [2.0, 1.0]
"""


def test_files_may_take_longer_to_make_than_a_collective_waits(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(PREPARATION)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*torchrun, str(tmp_path / "script.py"), str(tmp_path)], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()[-3000:]


def test_processes_of_a_second_start_are_refused_in_one_line(tmp_path: Path) -> None:
    """And none of them waits for one that has ended."""
    (tmp_path / "text.txt").write_text("the cat sat on the mat .\n\n" * 50)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "genus"]
    with RunFolder(tmp_path / "run").lock():
        asked = ["pretrain", "bert/tiny", str(tmp_path / "text.txt"), "--out", str(tmp_path / "run")]
        done = subprocess.run([*torchrun, *asked], capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    [line] = [line for line in done.stderr.splitlines() if line.startswith("genus: ")]
    assert f"is in use by process {os.getpid()}" in line
    assert not (tmp_path / "run" / "tokenizer").exists()


ENDLESS = """
import os, sys, time
from genus.train.world import rank_zero_first
open(f"{sys.argv[1]}/{os.getpid()}", "w").close()
with rank_zero_first():
    time.sleep(600)
"""


def test_processes_end_when_torchrun_is_killed(tmp_path: Path) -> None:
    """One of them makes files, the other waits for them."""
    (tmp_path / "script.py").write_text(ENDLESS)
    (tmp_path / "ranks").mkdir()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, str(tmp_path / "script.py"), str(tmp_path / "ranks")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        while len(ranks := list((tmp_path / "ranks").iterdir())) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(2)
        process.kill()
    while any(Path("/proc", rank.name).exists() for rank in ranks) and time.monotonic() < until:
        time.sleep(0.1)
    assert len(ranks) == 2
    assert not any(Path("/proc", rank.name).exists() for rank in ranks)


@pytest.mark.parametrize("choice", [AdamW(lr=1e-2), AdamW(lr=1e-2, bias_correction=False), LAMB(lr=1e-2)], ids=str)
def test_an_update_reads_nothing_from_the_device(choice: Optimizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors that are read on the host would make it wait for a GPU; only the result's own `read` does."""
    train_step = TrainStep(toy_learner(), choice, RUN, World(0, 1, torch.device("cpu")), seed=0)
    counts = train_step.count({0: MicroBatch(ToyFeed()[0], 0.1)})
    train_step({0: ToyFeed()[0]}, 0, 1.0, counts.targets).read()  # what is made once is made here

    def refuse(self: torch.Tensor, *_: object) -> None:
        raise AssertionError("read on the host")

    batch = ToyFeed()[1]
    with monkeypatch.context() as patch:
        for name in ("item", "tolist", "__bool__", "__float__", "__int__", "__index__"):
            patch.setattr(torch.Tensor, name, refuse)
        pending = train_step({1: batch}, 0, 1.0, counts.targets)
    assert pending.read().finite


def test_an_update_that_makes_weights_not_finite_is_neither_measured_nor_kept(tmp_path: Path) -> None:
    """With eps = 0, a weight without gradient is moved by 0 / 0, while loss and gradient are finite."""
    published: list[object] = []
    with pytest.raises(GenusError, match="step 1: the update made weights that are not finite") as caught:
        toy_train(
            tmp_path, optimizer=AdamW(lr=1e-2, eps=0.0), budget=Budget(amount=1), publish=published.append,
            evaluate=lambda learner: pytest.fail("measured"),
        )  # fmt: skip
    assert "\n" not in str(caught.value)
    assert not published
    assert not Checkpoints(tmp_path, 3, None).steps()
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint of step 4 is written only when step 7 is done, and holds the weights of step 4."""
    reached, write = threading.Event(), Checkpoints.write

    def slow(self: Checkpoints, snapshot: object) -> None:
        assert reached.wait(60)
        write(self, snapshot)  # type: ignore[arg-type]

    steps = iter(range(1, 11))
    monkeypatch.setattr(Checkpoints, "write", slow)

    def seen(learner: object) -> dict[str, float]:
        if next(steps) == 7:
            reached.set()
        return {}

    one = [TrainStage(ToyFeed(), 2)]  # no thread may run where a stage's workers are forked
    toy_train(tmp_path / "slow", run=RUN.override("evaluate_every", 1), evaluate=seen, stages=one)
    monkeypatch.undo()
    toy_train(tmp_path / "plain", stages=one)
    for step in (4, 8, 10):
        name = f"checkpoints/checkpoint-{step}/model.safetensors"
        assert (tmp_path / "slow" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_what_goes_wrong_beside_is_raised_where_it_is_waited_for() -> None:
    def fail() -> None:
        raise GenusError("the disk is full")

    with pytest.raises(GenusError, match="the disk is full"), BackgroundWriter() as writer:
        writer.start(fail)
    with pytest.raises(ValueError, match="first"):
        fail_first(fail)


def fail_first(beside: Callable[[], None]) -> None:
    with BackgroundWriter() as writer:
        writer.start(beside)
        raise ValueError("first")

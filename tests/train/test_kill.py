"""`kill -9` at random moments: the losses are those of the undisturbed run, and no checkpoint is broken or missing."""

from __future__ import annotations

import multiprocessing
import random
import time
from typing import TYPE_CHECKING

import pytest
import torch
from toy_run import RUN, ToyFeed, rows, toy_train

from forked import process
from genus.recipe import Budget
from genus.train.checkpoint import Checkpoints
from genus.train.data import TrainStage

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from pathlib import Path

STEPS, EVERY = 60, 5
PATIENCE = 120.0
"""Seconds for a run of two: one that takes longer hangs."""


def short_run(folder: Path, resume: bool) -> None:
    """Train in a process of its own, on one thread, with a worker that is forked from it."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)
    toy_train(
        folder,
        stages=[TrainStage(ToyFeed(), accumulate=2, share=0.6), TrainStage(ToyFeed(salt=1), accumulate=2, share=0.4)],
        budget=Budget(amount=STEPS),
        run=RUN.overlay({"checkpoint_every": EVERY, "evaluate_every": 4, "workers": 1}),
        evaluate=lambda learner: {"norm": sum(parameter.norm().item() for parameter in learner.parameters())},
        resume=resume,
    )


def start(folder: Path, resume: bool) -> BaseProcess:
    """Start the run as a fork of a clean process that has imported PyTorch."""
    return process(short_run, folder, resume)


def finish(running: BaseProcess) -> None:
    running.join(PATIENCE)
    running.kill()
    assert running.exitcode == 0


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kill(tmp_path: Path, kills: int) -> None:
    undisturbed = tmp_path / "undisturbed"
    finish(start(tmp_path / "warm-up", resume=False))
    begun = time.monotonic()
    finish(start(undisturbed, resume=False))
    duration = time.monotonic() - begun
    wanted = rows(undisturbed)
    assert len(wanted) == STEPS + STEPS // 4
    moments = random.Random(0)
    runs = landed = 0
    while landed < kills:
        folder = tmp_path / f"run-{runs}"
        runs += 1
        resume = False
        while True:
            running = start(folder, resume)
            running.join(moments.uniform(0.0, duration) if landed < kills else PATIENCE)
            running.kill()
            running.join()
            resume = True
            if running.exitcode == 0:
                break
            assert running.exitcode == -9
            landed += 1
            assert_whole(folder)
        assert rows(folder) == wanted
        assert Checkpoints(folder, RUN.keep, None).steps() == Checkpoints(undisturbed, RUN.keep, None).steps()
    assert landed == kills


def assert_whole(folder: Path) -> None:
    """No checkpoint that bears its name is broken, and none is missing that the metrics say was passed.

    But for the last one, which may not have been written yet: it is written beside training, one at a time.
    """
    broken: list[str] = []
    checkpoints = Checkpoints(folder, RUN.keep, None)
    newest = checkpoints.newest(broken.append)
    assert not broken
    reached = max((row["step"] for row in rows_written(folder)), default=0)
    if reached > 2 * EVERY:
        assert newest is not None
        assert int(newest.name.removeprefix("checkpoint-")) >= reached - 2 * EVERY - 1


def rows_written(folder: Path) -> list[dict[str, float]]:
    """Return the metrics of a killed run, whose last line may be torn."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
    return rows(folder)

"""How waiting threads are told to wait: by the machine's load, and never against the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from genus import openmp
from genus.train.run import Run
from genus.train.world import device_of_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing, and is what it was afterwards."""
    for name in openmp.CHOICES:
        monkeypatch.setenv(name, "")  # so that it is undone
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("used", "chosen"), [(0.0, {}), (0.29, {}), (0.31, {"GOMP_SPINCOUNT", "KMP_BLOCKTIME"})])
def test_a_busy_machine_shortens_the_wait(monkeypatch: pytest.MonkeyPatch, used: float, chosen: set[str]) -> None:
    monkeypatch.setattr(openmp, "load", lambda: used)
    openmp.choose_waiting()
    assert openmp.waiting().keys() == set(chosen)


@pytest.mark.parametrize("name", openmp.CHOICES)
def test_what_the_environment_says_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(openmp, "load", lambda: 1.0)
    monkeypatch.setenv(name, "7")
    openmp.choose_waiting()
    assert openmp.waiting() == {name: "7"}


def test_the_load_is_the_share_of_ticks_that_are_not_idle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of user, nice, system, idle, waiting for disks, interrupts and stolen time."""
    statistics = tmp_path / "stat"
    statistics.write_text("cpu  10 0 10 70 10 0 0 0 0 0\ncpu0 1 1\n")
    monkeypatch.setattr(openmp, "STATISTICS", statistics)
    later = "cpu  14 0 12 72 12 0 0 0 0 0\n"
    monkeypatch.setattr(openmp.time, "sleep", lambda _: statistics.write_text(later))
    assert openmp.load() == pytest.approx(0.6)
    statistics.write_text("something else\n")
    assert openmp.load() == 0.0
    statistics.unlink()
    assert openmp.load() == 0.0


def test_it_is_set_before_pytorch_is_imported() -> None:
    """The command line imports no PyTorch until a command needs it."""
    code = "import sys, genus.cli, genus.openmp; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ.copy(), check=False).returncode == 0


def test_the_threads_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the settings say a number it is set, else PyTorch's own stays."""
    seen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    device_of_run(Run(device="cpu"))
    device_of_run(Run(device="cpu", threads=3))
    assert seen == [3]

"""What can go wrong is told in one line, and loses nothing that was saved."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from toy_run import MODEL, RUN, ToyFeed, losses, toy_learner, toy_train

import genus.train.tensor_files
from genus.errors import GenusError, UsageError
from genus.optim.adamw import AdamW
from genus.recipe import Budget
from genus.train.checkpoint import Checkpoints
from genus.train.data import TrainStage
from genus.train.run import Run

if TYPE_CHECKING:
    from genus.batch import Batch


def one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    return text


def whole(folder: Path) -> list[int]:
    """Return the steps of the checkpoints, none of which is broken."""
    checkpoints = Checkpoints(folder, RUN.keep, None)
    checkpoints.newest(pytest.fail)
    return checkpoints.steps()


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    """The weights are poisoned after step 5; step 6 is refused, and checkpoint 4 stands."""

    def poison(learner: torch.nn.Module) -> dict[str, float]:
        next(learner.parameters()).data.fill_(torch.nan)
        return {}

    with pytest.raises(GenusError) as caught:
        toy_train(tmp_path, evaluate=poison)
    text = one_line(caught.value)
    assert text.startswith("step 6: the loss is nan")
    assert "resume from" in text
    assert "checkpoint-4" in text
    assert whole(tmp_path) == [4]
    toy_train(tmp_path, resume=True)
    assert len(losses(tmp_path)) == 10


def test_a_gradient_that_is_not_finite_changes_no_weight() -> None:
    learner = toy_learner()
    learner.network.token_embedding.weight.register_hook(lambda gradient: gradient * torch.inf)
    before = [parameter.clone() for parameter in learner.parameters()]
    with pytest.raises(GenusError, match=r"step 1: .*norm (nan|inf)"):
        toy_train(None, learner=learner)
    assert all(torch.equal(a, b) for a, b in zip(before, learner.parameters(), strict=True))


@contextlib.contextmanager
def small_disk(folder: Path, size: str):
    """Mount a disk of that size, if this system lets us."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(tmp_path: Path) -> None:
    """A checkpoint is about 120 kB, and a third one does not fit."""
    folder = tmp_path / "disk"
    with small_disk(folder, "352k"):
        with pytest.raises(GenusError) as caught:
            toy_train(folder, budget=Budget(amount=30))
        text = one_line(caught.value)
        assert "No space left on device" in text
        steps = whole(folder)
        assert steps
        assert steps[-1] < 30
        assert not (folder / "checkpoints" / ".partial").exists()


def test_a_disk_that_fills_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    save = genus.train.tensor_files.write_tensors

    def save_until_full(path: Path, tensors: dict[str, torch.Tensor], about: dict[str, str] | None) -> None:
        written.append(path)
        if len(written) == 6:  # the second file of the third checkpoint
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        save(path, tensors, about)

    monkeypatch.setattr(genus.train.tensor_files, "write_tensors", save_until_full)
    with pytest.raises(GenusError) as caught:
        toy_train(tmp_path)
    text = one_line(caught.value)
    assert "checkpoint-10: the checkpoint cannot be written (No space left on device); resume from" in text
    assert whole(tmp_path) == [4, 8]
    monkeypatch.undo()
    toy_train(tmp_path / "other")
    toy_train(tmp_path, resume=True)
    assert losses(tmp_path) == losses(tmp_path / "other")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


HARMS = {
    "a flipped bit in the model": ("model.safetensors", flip),
    "a flipped bit in the optimizer": ("optimizer.safetensors", flip),
    "a truncated state": ("state.json", truncate),
    "a missing file": ("optimizer.safetensors", Path.unlink),
    "a torn manifest": ("manifest.json", truncate),
    "no manifest": ("manifest.json", Path.unlink),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_corrupt_checkpoint(tmp_path: Path, harm: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The one before is taken, with a warning of one line, and the broken one is set aside."""
    toy_train(tmp_path)
    before = losses(tmp_path)
    name, break_it = HARMS[harm]
    break_it(tmp_path / "checkpoints" / "checkpoint-10" / name)
    toy_train(tmp_path, resume=True)
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 1
    assert "checkpoint-10: " in warnings[0]
    assert losses(tmp_path) == before
    assert whole(tmp_path) == [4, 8, 10]
    assert (tmp_path / "checkpoints" / "broken-10").is_dir()


def test_no_checkpoint_is_whole(tmp_path: Path) -> None:
    toy_train(tmp_path)
    for manifest in tmp_path.glob("checkpoints/*/manifest.json"):
        manifest.unlink()
    with pytest.raises(GenusError, match="none of the checkpoints is whole") as caught:
        toy_train(tmp_path, resume=True)
    one_line(caught.value)


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    toy_train(tmp_path, choices=MODEL)
    with pytest.raises(UsageError) as caught:
        toy_train(tmp_path, choices=MODEL.override("dropout", 0.2), resume=True)
    assert "made by another recipe: dropout was 0.1 and is 0.2;" in one_line(caught.value)
    toy_train(tmp_path, choices=MODEL, resume=True)


def test_another_model_is_refused(tmp_path: Path) -> None:
    toy_train(tmp_path)
    learner = toy_learner()
    learner.heads["masked_lm"].register_parameter("extra", torch.nn.Parameter(torch.zeros(1)))
    with pytest.raises(UsageError, match=r"holds another model; only one of the two has heads\.masked_lm\.extra"):
        toy_train(tmp_path, learner=learner, resume=True)


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    toy_train(tmp_path)
    with pytest.raises(UsageError, match="holds a run of 10 steps; resume it, or take another folder"):
        toy_train(tmp_path)


@pytest.mark.parametrize("device", ["tpu3000", "cuda:99"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(UsageError, match=f"run.device: cannot compute on '{device}'") as caught:
        toy_train(None, run=RUN.override("device", device))
    one_line(caught.value)


def test_intervals_are_positive() -> None:
    with pytest.raises(UsageError, match="keep: expected at least 1, got 0"):
        Run().override("keep", "0")
    with pytest.raises(UsageError, match="held_out: expected a fraction"):
        Run().override("held_out", "1.5")


ENDLESS_RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from toy_run import *
run = RUN.overlay({"checkpoint_every": 100000, "evaluate_every": 1, "workers": 1})
slow = lambda learner: print("step", flush=True) or {}
if sys.argv[3] == "deaf":
    import time
    slow = lambda learner: print("step", flush=True) or time.sleep(600)
summary = toy_train(Path(sys.argv[2]), budget=Budget(amount=10**6), run=run, evaluate=slow)
print("stopped" if summary.stopped else "ended", summary.progress.step)
"""


def endless(folder: Path, mood: str) -> subprocess.Popen[str]:
    """Start a run that would take hours, in a process group of its own, and wait for its first step."""
    command = [sys.executable, "-c", ENDLESS_RUN, str(Path(__file__).parent), str(folder), mood]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, start_new_session=True, **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "step\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_finishes_its_step_and_saves(tmp_path: Path, number: signal.Signals) -> None:
    """The signal goes to the whole process group, as a terminal's Ctrl-C does, so that the worker gets it too."""
    process = endless(tmp_path, "ready")
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    step = int(out.split()[-1])
    assert out.splitlines()[-1] == f"stopped {step}"
    assert "Traceback" not in err
    assert whole(tmp_path) == [step]


def test_a_second_signal_kills(tmp_path: Path) -> None:
    process = endless(tmp_path, "deaf")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT


def test_signals_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    toy_train(None, budget=Budget(amount=1), stages=[TrainStage(ToyFeed())], optimizer=AdamW(lr=1e-3))
    assert signal.getsignal(signal.SIGINT) is before


class Broken(ToyFeed):
    def __getitem__(self, number: int) -> Batch:
        if number == 3:
            raise GenusError("store/ids.bin: is damaged")
        return super().__getitem__(number)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_wrong_with_the_data_is_said_in_one_line(workers: int) -> None:
    run = RUN.overlay({"workers": workers})
    with pytest.raises(GenusError, match=r"^store/ids\.bin: is damaged$"):
        toy_train(None, run=run, stages=[TrainStage(Broken())])

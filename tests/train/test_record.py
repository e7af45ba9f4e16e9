"""What a run leaves to read."""

from __future__ import annotations

import builtins
import errno
import json
import os
import resource
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from toy_run import RUN, ToyFeed, losses, per_token, toy_train

import genus.files
import genus.train.curves
from genus.errors import GenusError
from genus.recipe import Budget
from genus.train import display
from genus.train.data import TrainStage
from genus.train.display import clock
from genus.train.peak import peak_flops, unknown_peak
from genus.train.record import MetricsFile

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

SINGLE = 1e-6
"""TensorBoard keeps float32."""


def every_row(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_rows_hold_what_a_reader_looks_for(tmp_path: Path) -> None:
    toy_train(tmp_path, run=RUN.override("log_every", 5), stages=[TrainStage(ToyFeed(), 2, 1.0, per_token(1000.0))])
    first, last = every_row(tmp_path)
    assert (first["step"], last["step"]) == (5, 10)
    assert np.float32(first["loss"]) == np.float32(first["masked_lm"])
    assert 0.0 <= first["masked_lm/correct"] <= 1.0
    assert last["tokens_per_second"] * (last["seconds"] - first["seconds"]) == pytest.approx(5 * 64)
    peak = peak_flops(torch.device("cpu"), torch.float32)
    assert peak is not None
    assert last["utilization"] * peak == pytest.approx(last["tokens_per_second"] * 1000.0)


def test_a_peak_is_measured_once_and_is_in_flops_per_second() -> None:
    """A core of the last twenty years does more than 1e9; no single device does 1e17."""
    device = torch.device("cpu")
    assert peak_flops(device, torch.float32) == peak_flops(device, torch.float32)
    threads = torch.get_num_threads()
    peak_flops.cache_clear()
    assert 1e9 < (peak_flops(device, torch.float32) or 0.0) < 1e17
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40", 181e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA H1000", None),
    ],
)
def test_a_gpu_has_the_peak_of_its_own_data_sheet(
    name: str, rate: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    peak_flops.cache_clear()
    device = torch.device("cuda")
    assert peak_flops(device, torch.bfloat16) == rate
    line = unknown_peak(device, torch.bfloat16)
    assert (
        line is None
        if rate
        else line == (f"the peak rate of a {name} is not known, so model-FLOPs utilization is left out")
    )
    peak_flops.cache_clear()


def test_a_run_on_a_device_of_unknown_peak_says_so_and_tells_no_utilization(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("genus.train.record.peak_flops", lambda *_: None)
    monkeypatch.setattr("genus.train.record.unknown_peak", lambda *_: "the peak rate is not known")
    toy_train(tmp_path, run=RUN.override("log_every", 5), stages=[TrainStage(ToyFeed(), 2, 1.0, per_token(1000.0))])
    assert "utilization" not in every_row(tmp_path)[-1]
    assert "tokens_per_second" in every_row(tmp_path)[-1]
    assert capsys.readouterr().err.count("the peak rate is not known") == 1


def test_run_json_has_an_entry_for_each_start(tmp_path: Path) -> None:
    toy_train(tmp_path, seed=7)
    toy_train(tmp_path, seed=7, resume=True)
    first, second = json.loads((tmp_path / "run.json").read_text())["sessions"]
    assert (first["step"], second["step"], first["seed"]) == (0, 10, 7)
    assert first["versions"]["torch"] == torch.__version__
    assert first["run"] == RUN.written()
    assert {"started", "device", "cores", "commit", "python", "processes"} <= first.keys()


def test_tensorboard_holds_the_same_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = RUN.override("tracker", "tensorboard")
    toy_train(tmp_path, run=run, budget=Budget(amount=5), evaluate=lambda learner: {"score": 0.25})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    curve = [(event.step, event.value) for event in events.Scalars("loss")]
    assert [step for step, _ in curve] == [1, 2, 3, 4, 5]
    assert [value for _, value in curve] == pytest.approx([loss for _, loss in losses(tmp_path)], rel=SINGLE)
    assert [(event.step, event.value) for event in events.Scalars("held_out/score")] == [(5, 0.25)]


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "make room and resume"), (errno.EACCES, "make it writable and resume")]
)
def test_curves_that_cannot_be_written_end_the_run_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], number: int, advice: str
) -> None:
    """As a disk that is full, from the third row on; no traceback of a thread stands beside it."""
    pytest.importorskip("tensorboard")
    real, written = genus.files.append, []

    def append(file: FileIO, data: bytes) -> None:
        written.append(data)
        if len(written) > 3:
            raise OSError(number, os.strerror(number))
        real(file, data)

    monkeypatch.setattr(genus.train.curves, "append", append)
    with pytest.raises(GenusError, match=rf"tensorboard/events\S+: cannot be written \(.*\); {advice}") as caught:
        toy_train(tmp_path, run=RUN.override("tracker", "tensorboard"))
    assert "\n" not in str(caught.value)
    assert "Traceback" not in capfd.readouterr().err
    monkeypatch.undo()
    toy_train(tmp_path, run=RUN.override("tracker", "tensorboard"))
    assert len(losses(tmp_path)) == 10


@pytest.mark.parametrize("tracker", ["auto", "tensorboard"])
def test_without_tensorboard(tmp_path: Path, tracker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is missed only by those who asked for it."""
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("tensorboard"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    if tracker == "auto":
        toy_train(tmp_path, run=RUN.override("tracker", tracker), budget=Budget(amount=1))
        assert not (tmp_path / "tensorboard").exists()
    else:
        with pytest.raises(GenusError, match=r"pip install 'genus\[track\]'"):
            toy_train(tmp_path, run=RUN.override("tracker", tracker))


@pytest.mark.parametrize("torn", [b'{"step": 3, "lo', b'{"step": 3, "lo\n', b"\xff\x00\n", b"3\n", b"{}\n"])
def test_a_torn_last_row_is_dropped(torn: bytes, tmp_path: Path) -> None:
    whole = b'{"step": 1}\n{"step": 2}\n'
    (tmp_path / "metrics.jsonl").write_bytes(whole + b'{"step": 9}\n' + torn)
    MetricsFile(tmp_path, "none", 4).close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole


@pytest.mark.parametrize("damaged", [b'{"step": 1, "lo\n', b"[" * 100_000 + b"\n", b'{"step": 1' + b"0" * 400 + b"}\n"])
def test_damaged_rows_are_dropped_and_counted(
    damaged: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + damaged + b'{"step": 2}\n')
    MetricsFile(tmp_path, "none", 4).close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == b'{"step": 1}\n{"step": 2}\n'
    assert capsys.readouterr().err == f"{tmp_path / 'metrics.jsonl'}: 1 of 3 lines are damaged and left out\n"


def test_a_disk_that_takes_a_part_of_a_row(tmp_path: Path) -> None:
    """A file's largest size is such a disk: the system writes up to it, and says how much."""
    metrics = MetricsFile(tmp_path, "none", 0)
    metrics.write({"step": 1})
    size, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (metrics.path.stat().st_size + 5, hard))
    try:
        with pytest.raises(GenusError, match=r"metrics.jsonl: cannot be written \(File too large\)"):
            metrics.write({"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    metrics.close()


def test_a_full_disk_under_the_metrics(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path, "none", 0)
    metrics.close()
    with open("/dev/full", "ab", buffering=0) as metrics.file:
        with pytest.raises(GenusError, match=r"metrics.jsonl: cannot be written \(No space left on device\)"):
            metrics.write({"step": 1})
        metrics.close()


def test_no_terminal_no_chatter(capsys: pytest.CaptureFixture[str]) -> None:
    toy_train(None)
    assert capsys.readouterr() == ("", "")


def test_a_line_every_so_often(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "EVERY", 0.0)
    toy_train(None, title="bert/tiny", stages=[TrainStage(ToyFeed(), 2, 1.0, per_token(1000.0))])
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 10
    assert lines[4].startswith("bert/tiny: 50%, step 5, loss 3.")
    assert "tokens/s" in lines[4]
    assert "of peak" in lines[4]
    assert lines[-1].endswith("0:00 left")


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    toy_train(None, title="bert/tiny")
    err = capsys.readouterr().err
    assert "bert/tiny" in err
    assert "100%" in err
    assert "step 10, loss 3." in err


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (7325, "2:02:05")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text

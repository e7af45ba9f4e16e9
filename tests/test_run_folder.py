"""A run's folder: what it holds, who may write into it, and processes that start at once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from genus.errors import GenusError, UsageError
from genus.optim.schedule import Linear
from genus.run_folder import LOCK, RunFolder

if TYPE_CHECKING:
    from pathlib import Path

RACE = """
import multiprocessing, sys
from pathlib import Path
from genus.files import write_json
from genus.optim.schedule import Linear
from genus.run_folder import RunFolder

assert "torch" not in sys.modules  # small processes

def start(rounds, barrier, failures):
    for folder in rounds:
        barrier.wait()
        try:
            RunFolder(folder).pin(Linear(warmup=0.5))
            write_json(folder / "other.json", list(range(1000)))
        except Exception as error:
            failures.put(f"{type(error).__name__}: {error}")

fork = multiprocessing.get_context("fork")
rounds = [Path(sys.argv[1]) / str(number) for number in range(30)]
barrier, failures = fork.Barrier(5), fork.SimpleQueue()
each = [fork.Process(target=start, args=(rounds, barrier, failures)) for _ in range(5)]
for process in each: process.start()
for process in each: process.join()
while not failures.empty(): print(failures.get())
"""
HOLD = """
import sys, time
from pathlib import Path
from genus.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    time.sleep(600)
"""


def test_five_processes_start_at_once_thirty_times(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", RACE, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    for number in range(30):
        folder = tmp_path / str(number)
        assert json.loads((folder / "recipe.json").read_text()) == Linear(warmup=0.5).written()
        assert json.loads((folder / "other.json").read_text()) == list(range(1000))
        assert sorted(path.name for path in folder.iterdir()) == ["other.json", "recipe.json"]


def test_a_folder_in_use_is_refused_until_its_process_ends_in_any_way(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    in_use = rf"run: is in use by process {holder.pid} on .*; wait"
    with pytest.raises(UsageError, match=in_use) as caught, RunFolder(tmp_path / "run").lock():
        pytest.fail("locked twice")
    assert "\n" not in str(caught.value)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with RunFolder(tmp_path / "run").lock():
        assert (tmp_path / "run" / LOCK).exists()
    with RunFolder(tmp_path / "run").lock():
        pass


@pytest.mark.parametrize(
    ("names", "content", "refused"),
    [
        ((), "nothing", set()),
        (("notes.txt",), "other files", set()),
        (("recipe.json",), "a pretraining run", {"fine-tuning"}),
        (("checkpoints/",), "a pretraining run", {"fine-tuning"}),
        (("report.json", "model/"), "a fine-tuning", {"pretraining"}),
        (("seed-0/",), "a fine-tuning", {"pretraining"}),
        (("config.json", "recipe.json"), "a model", {"pretraining", "fine-tuning"}),
        (("tokenizer.json",), "a tokenizer", set()),
    ],
)
def test_what_a_folder_holds(tmp_path: Path, names: tuple[str, ...], content: str, refused: set[str]) -> None:
    for name in names:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_text("{}")
    run = RunFolder(tmp_path)
    assert run.content() == content
    for purpose in ("pretraining", "fine-tuning"):
        if purpose in refused:
            with pytest.raises(UsageError, match=f"holds {content}, whose model would be replaced"):
                run.check(purpose)
        else:
            run.check(purpose)


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UsageError, match="file is a file, not a folder"):
            RunFolder(path).check("pretraining")


def test_choices_are_pinned_once_something_is_learned(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.pin(Linear(warmup=0.1))
    run.pin(Linear(warmup=0.2))
    assert not run.has_started()
    (tmp_path / "checkpoints" / "checkpoint-7").mkdir(parents=True)
    assert run.has_started()
    assert run.checkpoint_steps() == [7]
    run.pin(Linear(warmup=0.2))
    with pytest.raises(UsageError, match=r"another recipe \(warmup was 0\.2, not 0\.3\)"):
        run.pin(Linear(warmup=0.3), resume=True)


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"kind": "Constant"}'])
def test_damaged_choices_are_told_in_one_line(tmp_path: Path, damage: str) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / "model").mkdir()
    run.recipe.write_text(damage)
    with pytest.raises(GenusError, match=r"recipe\.json") as caught:
        run.pin(Linear())
    assert "\n" not in str(caught.value)

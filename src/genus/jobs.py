"""Jobs with results in files, several processes at a time: what is finished is not done again, a failure stops nobody.

A job's result carries the choices it was made with; a result of other choices is made anew.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from genus.errors import GenusError, say
from genus.files import read_json, write_json
from genus.model.cpu import tune_cpu_process
from genus.openmp import choose_waiting
from genus.recipe import Recipe
from genus.train.display import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.context import SpawnProcess
    from pathlib import Path

LINES = 400
"""Characters of a reason that is told."""


class Stopped(GenusError):
    """A job was told to stop, and has saved what it had reached."""


@dataclass(frozen=True)
class Job:
    """One process's work."""

    name: str
    work: Callable[[], dict[str, Any]]
    """Can be pickled; called in a process of its own, where it goes on from whatever an earlier call left behind."""
    result: Path
    choices: Any
    """All that the result depends on, as JSON."""
    cost: float
    """In any unit, by which the time that is left is told."""
    needs: tuple[str, ...] = ()
    """Names of jobs that come before."""

    def done(self) -> dict[str, Any] | None:
        """Return the result, None where it is not there or was made with other choices."""
        if not self.result.exists():
            return None
        try:
            found: dict[str, Any] = read_json(self.result)
        except GenusError:  # damaged: made anew
            return None
        return found if self.fits(found) else None

    def fits(self, found: dict[str, Any]) -> bool:
        """Return whether a result was made with the same choices."""
        return bool(renewed(found.get("choices")) == json.loads(json.dumps(self.choices)))

    def carry_out(self) -> None:
        """Do the work and write its result.

        Raises:
            GenusError: it cannot be done, or was stopped.
        """
        self.result.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.result, {"choices": self.choices, **self.work()})

    def take(self, found: dict[str, Any]) -> None:
        """Make a result one's own."""
        self.result.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.result, found)

    def stale(self) -> bool:
        """Return whether there is a result that was made with other choices."""
        return self.result.exists() and self.done() is None

    @property
    def log(self) -> Path:
        """What it says."""
        return self.result.with_suffix(".log")


def renewed(choices: Any) -> Any:
    """Return a result's choices with its recipe as it is written today: what it did not know has its default."""
    if not isinstance(choices, dict) or "recipe" not in choices:
        return choices
    try:
        return choices | {"recipe": json.loads(json.dumps(Recipe.from_json(choices["recipe"]).written()))}
    except GenusError:  # of a kind that is gone
        return choices


@dataclass
class Clockwork:
    """How far all is."""

    total: int
    left: float
    ended: Callable[[], object] | None
    finished: int = 0
    spent: float = 0.0

    def tick(self, job: Job, begun: float, seconds: float, how: str) -> None:
        """Tell of a job that has ended."""
        self.finished, self.left, self.spent = self.finished + 1, self.left - job.cost, self.spent + job.cost
        remaining = (time.monotonic() - begun) * self.left / self.spent if self.spent else 0.0
        line = f"[{self.finished}/{self.total}] {job.name}: {how} after {clock(seconds)}; {clock(remaining)} left"
        say(line)
        if self.ended is not None:
            self.ended()


def carry_out(
    jobs: Sequence[Job], processes: int, threads: int, ended: Callable[[], object] | None = None
) -> dict[str, str]:
    """Do what is not done, and return why by the name of each job that failed.

    Args:
        jobs: in the order in which they are begun.
        processes: how many work at a time; 0: this one does all, one after the other.
        threads: of each.
        ended: called whenever a job has ended.

    Raises:
        KeyboardInterrupt: passed on when every process has saved what it had reached.
    """
    return _side_by_side(jobs, processes, threads, ended) if processes else _in_turn(jobs, ended)


def _side_by_side(
    jobs: Sequence[Job], processes: int, threads: int, ended: Callable[[], object] | None
) -> dict[str, str]:
    """Do in other processes what is not done, several at a time."""
    open_jobs = {job.name: job for job in jobs if job.done() is None}
    say(f"{len(jobs) - len(open_jobs)} of {len(jobs)} jobs are finished already")
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read by the libraries of a new process, as is how threads wait:
    choose_waiting()  # on a machine with other work, threads that spin made fine-tuning 20 times as slow
    left, begun = sum(job.cost for job in open_jobs.values()), time.monotonic()
    clockwork = Clockwork(len(open_jobs), left, ended)
    running: dict[str, tuple[SpawnProcess, float]] = {}
    failed: dict[str, str] = {}
    try:
        while open_jobs or running:
            for job in [job for job in open_jobs.values() if not {*job.needs} & ({*open_jobs} | {*running})]:
                if missing := [name for name in job.needs if name in failed]:
                    failed[open_jobs.pop(job.name).name] = f"needs {missing[0]}, which failed"
                elif len(running) < processes:
                    running[open_jobs.pop(job.name).name] = _start(job, threads), time.monotonic()
            if not running:
                continue
            wait([process.sentinel for process, _ in running.values()])
            for name in [name for name, (process, _) in running.items() if process.exitcode is not None]:
                process, since = running.pop(name)
                job = next(job for job in jobs if job.name == name)
                if process.exitcode or job.done() is None:
                    failed[name] = _reason(job, process)
                how = f"FAILED ({failed[name]})" if name in failed else "done"
                clockwork.tick(job, begun, time.monotonic() - since, how)
    except KeyboardInterrupt:
        for process, _ in running.values():
            process.join()  # Ctrl-C reached it too, and it is saving
        raise
    return failed


def _in_turn(jobs: Sequence[Job], ended: Callable[[], object] | None) -> dict[str, str]:
    """Do in this process what is not done; an error of one line stops nobody, any other is a defect and is raised."""
    open_jobs = [job for job in jobs if job.done() is None]
    clockwork = Clockwork(len(open_jobs), sum(job.cost for job in open_jobs), ended)
    begun, failed = time.monotonic(), dict[str, str]()
    for job in open_jobs:
        since = time.monotonic()
        if missing := [name for name in job.needs if name in failed]:
            failed[job.name] = f"needs {missing[0]}, which failed"
        else:
            try:
                job.carry_out()
            except Stopped:
                raise KeyboardInterrupt from None
            except GenusError as error:
                failed[job.name] = str(error)[:LINES]
        how = f"FAILED ({failed[job.name]})" if job.name in failed else "done"
        clockwork.tick(job, begun, time.monotonic() - since, how)
    return failed


def _start(job: Job, threads: int) -> SpawnProcess:
    process = multiprocessing.get_context("spawn").Process(target=_do, args=(job, threads), name=job.name)
    process.start()
    return process


def _do(job: Job, threads: int) -> None:
    """Do a job in this process."""
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()
    job.result.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        torch.set_num_threads(threads)
        tune_cpu_process()
        try:
            job.carry_out()
        except GenusError as error:
            print(error)
            sys.exit(1)
        except Exception:  # whatever it is, others go on
            traceback.print_exc()
            sys.exit(1)


def _end_with_parent() -> None:
    """End where nobody waits any more: a killed run leaves no process behind that writes into its folders."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _reason(job: Job, process: SpawnProcess) -> str:
    if process.exitcode is not None and process.exitcode < 0:
        return f"ended by signal {-process.exitcode}; see {job.log}"
    lines = [line for line in job.log.read_text(encoding="utf-8").splitlines() if line.strip()]
    return lines[-1][:LINES] if lines else f"no result; see {job.log}"

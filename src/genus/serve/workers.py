"""The worker processes of a server: started, started again when one dies, and ended together.

uvicorn's own supervisor is not taken: it kills workers that do not answer it within seconds, as while PyTorch is
imported, starts those again without an end whose models cannot be loaded, listens on while the last requests are
answered, and leaves orphans when it is killed.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from genus.errors import GenusError, UsageError, say
from genus.model.cpu import tune_cpu_process
from genus.processes import end_with
from genus.serve.core_groups import pin
from genus.serve.metrics import FOLDER
from genus.serve.process import answer, ending_well

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from genus.serve.process import Serving

INTERVAL = 0.1
"""Seconds between two looks at the workers."""
LONGEST_PAUSE = 60.0
"""Seconds at most before a worker is started again that could not load its models; 1, 2, 4, ... before."""
GRACE = 10.0
"""Seconds that workers have to end once their requests are answered; then they are killed."""
SPAWN = multiprocessing.get_context("spawn")


@dataclass(eq=False)
class Worker:
    """A worker process, or the one that stands in its place."""

    serving: Serving
    listening: socket.socket
    ready: bool = False
    """Whether its models are loaded."""
    error: GenusError | None = None
    """Why they cannot be."""
    failures: int = 0
    """How often it ended before it was ready, one after another."""
    due: float = 0.0
    """When it is started again, by the clock of `time.monotonic`, if it has ended."""
    process: SpawnProcess = field(init=False)
    told: Connection = field(init=False)
    """Where it tells that its models are loaded, which is no error, or why they cannot be."""

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start the process; Ctrl-C goes to the process that starts it alone."""
        self.told, tell = SPAWN.Pipe(duplex=False)
        self.process = SPAWN.Process(target=_work, args=(self.serving, self.listening, tell, os.getpid()))
        with _without_interrupts():
            self.process.start()
        tell.close()
        self.ready, self.error, self.due = False, None, 0.0

    def look(self) -> GenusError | None:
        """Take note of what the process tells; return the error with which it has ended, once."""
        ended = not self.process.is_alive()
        try:
            while self.told.poll():
                self.error = self.told.recv()
                self.ready = self.ready or self.error is None
        except (EOFError, OSError):  # the other end is closed
            pass
        if not ended or self.due:
            return None
        code = self.process.exitcode or 0
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return self.error or GenusError(f"worker process {self.process.pid} ended by {how}")

    def restart_later(self) -> float:
        """Set when it is started again; return in how many seconds."""
        self.failures = 0 if self.ready else self.failures + 1
        pause = min(LONGEST_PAUSE, 2.0 ** (self.failures - 1)) if self.failures else 0.0
        self.due = time.monotonic() + pause
        return pause


def supervise(serving: Serving, listening: socket.socket) -> None:
    """Let workers answer until SIGTERM or Ctrl-C, which let requests be answered that are there; then return.

    A worker that dies is started again while the others answer; pauses grow while its models cannot be loaded. As long
    as no worker has ever been ready, whatever ends one ends the server.

    Raises:
        GenusError: a model cannot be loaded.
        KeyboardInterrupt: Ctrl-C ended it.
    """
    with TemporaryDirectory(prefix="genus-metrics-") as folder, _signals() as caught:
        os.environ[FOLDER] = folder
        workers = [Worker(serving.for_worker(number), listening) for number in range(serving.workers)]
        try:
            served = False
            while not caught:
                time.sleep(INTERVAL)
                served = _tend(workers, served=served)
        finally:
            listening.close()
            _end(workers, serving.patience + GRACE, caught)
    if signal.SIGINT in caught:
        raise KeyboardInterrupt


def _tend(workers: Sequence[Worker], *, served: bool) -> bool:
    """Start workers again that have ended; return whether one was ever ready.

    Raises:
        GenusError: one has ended, and none was ever ready.
    """
    errors = [worker.look() for worker in workers]
    served = served or any(worker.ready for worker in workers)
    for worker, error in zip(workers, errors, strict=True):
        if error is not None and not served:
            raise error
        if error is not None:
            pause = worker.restart_later()
            say(f"{error}; another one is started{f' in {pause:g} s' if pause else ''}")
        if worker.due and time.monotonic() >= worker.due:
            worker.begin()
    return served


def _end(workers: Sequence[Worker], seconds: float, caught: Sequence[int]) -> None:
    """Let workers answer what they have, and kill those that have not ended in time, or when Ctrl-C comes again."""
    for worker in workers:
        worker.process.terminate()
    until = time.monotonic() + seconds
    while any(worker.process.is_alive() for worker in workers):
        if time.monotonic() > until or signal.SIGINT in caught[1:]:
            for worker in workers:
                worker.process.kill()
        time.sleep(INTERVAL / 10)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Context manager: SIGTERM and SIGINT do nothing but to stand in the list that it gives."""
    caught: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda number, frame: caught.append(number)) for number in numbers]
    try:
        yield caught
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Context manager: SIGINT waits; processes that are started within never get it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(serving: Serving, listening: socket.socket, tell: Connection, parent: int) -> None:
    """Answer requests in a worker process until SIGTERM, or until its parent is no more."""

    def told(error: Exception | None) -> None:
        with suppress(OSError):  # of a parent that is no more
            tell.send(error)

    with ending_well():
        pin(serving.group)
        end_with(parent)
        tune_cpu_process()
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        try:
            answer(serving, listening, told)
        except GenusError as error:
            told((UsageError if error.exit_code == UsageError.exit_code else GenusError)(str(error)))
        except Exception as error:  # whatever it is, its parent tells it
            told(GenusError(f"{type(error).__name__}: {error}"))

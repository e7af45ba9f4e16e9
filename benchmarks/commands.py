"""Commands of `genus`, each a fork of this process, or a process of its own.

To import PyTorch takes seconds, to fork a process that has imported it milliseconds. What forks must have no other
thread, and must not have computed with tensors: OpenMP's threads do not outlive a fork. So what needs tensors is asked
of a fork as well (`ask`).
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import pkgutil
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import genus
from genus.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PATIENCE = 1200.0
"""Seconds after which a command hangs."""
INTERVAL = 0.005
"""Seconds between two looks at a command."""
LATE = ("torch._dynamo", "torch.optim", "torch.utils.data", "safetensors.torch", "tokenizers", "rich.progress")
"""What commands import where they need it."""
TOLD = 300
"""Most characters of an error that are kept."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended: exit code (negative: the signal), standard error and standard output."""

    code: int
    error: str
    output: str = ""

    @property
    def killed(self) -> bool:
        """Whether it was still at work when its time was over."""
        return self.code == -signal.SIGKILL

    @property
    def fault(self) -> str:
        """What is wrong with how it ended; "" where it ended well or with one line."""
        lines = [line for line in self.error.splitlines() if "genus: error: " in line]
        said = lines[-1][:TOLD] if lines else self.error[-TOLD:]
        if self.code == 0 or (self.code in (1, 2) and len(lines) == 1 and "unexpected;" not in said
                              and "Traceback" not in self.error):  # fmt: skip
            return ""
        return f"exit code {self.code}: {said}"


def preload() -> None:
    """Import what commands need, once and in one thread; the process begins anew where OpenMP would start several."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "OMP_NUM_THREADS": "1"})
    for name in (*LATE, *(module.name for module in pkgutil.walk_packages(genus.__path__, "genus."))):
        if not name.endswith("__main__"):
            importlib.import_module(name)
    with redirect_stderr(io.StringIO()):
        main(["fill"])  # what reads arguments is imported where the first are read
    gc.freeze()  # what is never collected is never copied


def run(
    *arguments: object,
    real: bool = False,
    kill_after: float | None = None,
    limits: Mapping[int, int] | None = None,
    at: tuple[float, Callable[[], None]] | None = None,
) -> Ended:
    """Run a command in a session of its own, which is killed after some seconds.

    Args:
        arguments: those of the command line.
        real: whether it is a process of its own, not a fork.
        kill_after: seconds; None: it hangs if it has not ended after `PATIENCE`.
        limits: limits of resources, by the numbers of `resource`.
        at: what is done meanwhile, after some seconds.
    """
    words = [str(argument) for argument in arguments]
    begin = partial(os.execv, sys.executable, [sys.executable, "-m", "genus", *words]) if real else partial(main, words)
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
        process, code = _fork(begin, output, error, limits or {}), None
        if at is not None and (code := _wait(process, at[0])) is None:
            at[1]()
        if code is None and (code := _wait(process, PATIENCE if kill_after is None else kill_after)) is None:
            code = _kill(process)
        if code == -signal.SIGKILL and kill_after is None:
            return Ended(1, f"genus: error: unexpected; killed, after {PATIENCE:g} s at the latest")
        return Ended(code, _text(error), _text(output))


def ask(question: Callable[..., Any], *arguments: object) -> Any:
    """Return what a function answers in a fork; the answer is JSON.

    Raises:
        RuntimeError: it fails.
    """

    def begin() -> int:
        print(json.dumps(question(*arguments)))
        return 0

    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
        process = _fork(begin, output, error, {})
        while (code := _wait(process, PATIENCE)) is None:
            pass
        if code:
            raise RuntimeError(_text(error))
        return json.loads(_text(output).splitlines()[-1])


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _fork(begin: Callable[[], int], output: IO[bytes], error: IO[bytes], limits: Mapping[int, int]) -> int:
    """Start a fork in a session of its own, and return its process id."""
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork of several threads has only one of them"
    sys.stdout.flush()
    if process := os.fork():
        return process
    code = 1
    try:
        os.setsid()
        for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), output.fileno(), error.fileno())):
            os.dup2(file, number)
        for number, most in limits.items():
            resource.setrlimit(number, (most, most))
        code = begin()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # as an interpreter does at its end
        traceback.print_exc()
    finally:
        _end(code)
    raise AssertionError


def _end(code: int) -> None:
    """End this process as an interpreter does, without what is the parent's."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
        atexit._run_exitfuncs()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        code = code or 120  # an interpreter's, where standard output cannot be written
    finally:
        os._exit(code)


def _wait(process: int, seconds: float) -> int | None:
    """Return the exit code of a process, None if it is at work after some seconds."""
    last = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= last:
            return None
        time.sleep(INTERVAL)


def _kill(process: int) -> int:
    """Kill a process with its session, and return its exit code."""
    try:
        os.killpg(process, signal.SIGKILL)
    except ProcessLookupError:  # it has no session of its own yet
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

"""Execution of written programs, each in a process of its own that cannot do harm (`jail.py`)."""

from __future__ import annotations

import functools
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from genus.errors import GenusError
from genus.processes import cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MIB = 1 << 20
MARGIN = 30.0
"""Seconds beyond a program's own for its jail, on a busy machine."""
JAIL, SCRIPT = (str(Path(__file__).with_name(name)) for name in ("jail.py", "program.py"))


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a program may use."""

    seconds: float = 3.0
    """From its start; that of openai/human-eval, evaluation.py."""
    memory: int = 1024 * MIB
    """Bytes of address space, of each process."""
    disk: int = 64 * MIB
    """Bytes of all its files, where its folder lies in memory."""
    file: int = 16 * MIB
    """Bytes of one file."""
    processes: int = 8
    """Processes and threads, with the first."""


@dataclass(frozen=True)
class Verdict:
    """How a program ended."""

    result: Literal["passed", "failed", "timed out"]
    detail: str = ""
    """Of a failure: the name of the exception."""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Return whether the last line of the program was reached."""
        return self.result == "passed"


def run(program: str, limits: Limits | None = None) -> Verdict:
    """Run a Python program; it passes if its last line is reached within the limits.

    Nothing remains of it: its processes are killed, its folder is removed, what it prints is lost. Whether it has
    passed is told by a random word that it does not know, not by what it prints or how it exits.

    Raises:
        GenusError: programs cannot be run here.
    """
    return _judge(program, limits or Limits(), namespaces=isolated())


def run_all(
    programs: Sequence[str],
    limits: Limits | None = None,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Verdict]:
    """Yield the verdicts on programs, in their order; as many run at a time as there are cores, or `workers`."""
    isolated()
    pool = ThreadPoolExecutor(workers or cores())
    try:
        for done, verdict in enumerate(pool.map(lambda program: run(program, limits), programs), 1):
            progress(done, len(programs))
            yield verdict
    finally:
        pool.shutdown(cancel_futures=True)


@functools.cache
def isolated() -> bool:
    """Return whether the kernel allows namespaces: else programs can write files of this user, and use the network.

    Raises:
        GenusError: programs cannot be run here at all.
    """
    if os.name != "posix":
        raise GenusError("programs of a model are run on Linux and macOS only")
    for namespaces in (True, False):
        try:
            _judge("", Limits(seconds=MARGIN), namespaces=namespaces)
        except GenusError:
            if not namespaces:
                raise
        else:
            return namespaces
    raise AssertionError


def _judge(program: str, limits: Limits, *, namespaces: bool) -> Verdict:
    with tempfile.TemporaryDirectory(prefix="genus-code-") as folder:
        found = _jailed(_order(program, limits, folder, namespaces), limits.seconds + MARGIN)
    if found.get("result") == "impossible":
        raise GenusError(f"programs cannot be run on this machine: {found['detail']}")
    return Verdict(**found)


def _order(program: str, limits: Limits, folder: str, namespaces: bool) -> dict[str, Any]:
    """Return what the jail is told."""
    environment = {
        "PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    }  # fmt: skip
    return {
        "program": program, "word": secrets.token_hex(16), "folder": folder, "namespaces": namespaces,
        "python": sys.executable, "script": SCRIPT, "environment": environment, **asdict(limits),
    }  # fmt: skip


def _jailed(order: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Return what the jail tells of a program; a failure if it tells nothing."""
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps(order).encode())
        file.flush()
        jail = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", JAIL], stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            told, _ = jail.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            told = b""
        finally:
            if jail.poll() is None:
                os.killpg(jail.pid, signal.SIGKILL)
                jail.communicate()
    try:
        found = json.loads(told)
    except ValueError:
        return {"result": "failed", "detail": "its jail was ended"}
    assert isinstance(found, dict)
    return found

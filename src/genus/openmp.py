"""How OpenMP's threads wait for each other: set before PyTorch is imported, as its OpenMP library reads it once."""

from __future__ import annotations

import os
import time
from pathlib import Path

SPINS = 10_000
"""Turns of libgomp's waiting loop before a thread sleeps, a tenth of a millisecond; its default is 300,000."""
MILLISECONDS = 0
"""Time for which a thread of Intel's and LLVM's libraries spins before it sleeps; their default is 200."""
CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables by which a user chooses."""
STATISTICS = Path("/proc/stat")
INTERVAL = 0.05
"""Seconds over which the machine is looked at."""
BUSY = 0.3
"""Share of the processors' time from which on other programs count as a load."""


def choose_waiting() -> None:
    """On a machine that other programs keep busy, let waiting threads sleep at once, unless the environment says how.

    At the end of every parallel region threads wait for the slowest. By default they spin, which is fastest on an idle
    machine. Where another program has one of the cores, threads that spin take the time of the one that they wait for.
    """
    if not any(name in os.environ for name in CHOICES) and load() > BUSY:
        os.environ.update(GOMP_SPINCOUNT=str(SPINS), KMP_BLOCKTIME=str(MILLISECONDS))


def load() -> float:
    """Return the share of the processors' time that is used while this process sleeps; 0 where no system tells."""
    try:
        before = _times()
        time.sleep(INTERVAL)
        total, idle = (after - earlier for after, earlier in zip(_times(), before, strict=True))
    except (OSError, ValueError, IndexError):
        return 0.0
    return 1.0 - idle / total if total > 0 else 0.0


def _times() -> tuple[int, int]:
    """Return the processors' time so far, and the part in which they were idle or waited for disks, in ticks."""
    ticks = [int(word) for word in STATISTICS.read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]]
    return sum(ticks), ticks[3] + ticks[4]


def waiting() -> dict[str, str]:
    """Return the environment variables that say how threads wait."""
    return {name: os.environ[name] for name in CHOICES if name in os.environ}

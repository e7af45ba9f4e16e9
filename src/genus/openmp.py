"""How OpenMP's threads wait for each other: set before PyTorch is imported, as its OpenMP library reads it once."""

from __future__ import annotations

import os

SPINS = 1_000
"""Turns of libgomp's waiting loop before a thread sleeps, a few microseconds."""
MILLISECONDS = 0
"""Time for which a thread of Intel's and LLVM's libraries spins before it sleeps."""
CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables by which a user chooses."""


def sleep_soon() -> None:
    """Let waiting threads sleep almost at once, unless the environment says how they wait.

    At the end of every parallel region threads wait for the slowest. By default they spin for milliseconds; where
    another program has one of the cores, the threads that spin take the time of the one that they wait for.
    """
    if not any(name in os.environ for name in CHOICES):
        os.environ.update(GOMP_SPINCOUNT=str(SPINS), KMP_BLOCKTIME=str(MILLISECONDS))


def waiting() -> dict[str, str]:
    """Return the environment variables that say how threads wait."""
    return {name: os.environ[name] for name in CHOICES if name in os.environ}

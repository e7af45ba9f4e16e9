"""How many processes pay, what their threads share, and processes that end when the one that started them is gone."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from contextlib import suppress

INTERVAL = 1.0
"""Seconds between two looks at the parent."""
ARENAS = 2
"""A server of 32 requests at once keeps 640 MB instead of 940, and answers as many."""
M_ARENA_MAX = -8
"""Of <malloc.h>."""
GRACE = 60.0
"""Seconds for a run to finish its step and save."""


def cores() -> int:
    """Return the number of cores that this process may use: fewer than there are where a scheduler allotted them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_arenas(most: int = ARENAS) -> None:
    """Let all threads of this process allocate in so many arenas of glibc, so that less memory is kept that is free.

    glibc has up to 8 for each core, and each keeps what its threads once needed (mallopt(3), `M_ARENA_MAX`). Nothing
    happens where another allocator is used, or the environment says how many.
    """
    if "MALLOC_ARENA_MAX" in os.environ or "arena_max" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, most)


def end_with(parent: int) -> None:
    """Start a thread that ends this process when it is no longer a child of the process `parent`.

    It sends SIGTERM first, on which a run finishes its step and saves, and SIGKILL `GRACE` seconds later.
    """
    threading.Thread(target=_watch, args=(parent,), name="genus-parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)

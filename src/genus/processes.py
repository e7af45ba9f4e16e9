"""How many processes pay, and processes that end when the one that started them is gone, which then cannot end them."""

from __future__ import annotations

import os
import signal
import threading
import time

INTERVAL = 1.0
"""Seconds between two looks at the parent."""
GRACE = 60.0
"""Seconds for a run to finish its step and save."""


def cores() -> int:
    """Return the number of cores that this process may use: fewer than there are where a scheduler allotted them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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

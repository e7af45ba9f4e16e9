"""Worker processes: how many pay, work shared out among them, what threads share, and their end with their parent."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import threading
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, TypeVar

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Item = TypeVar("Item")
Result = TypeVar("Result")

INTERVAL = 1.0
"""Seconds between two looks at the parent."""
ARENAS = 1
"""Of all but the first, `malloc_trim` leaves the end as large as it once was, up to 64 MB each. On two cores a server
of 16 requests at once answers as many with 1 and 2, and 8 threads tokenize as fast with 1, 2 and 8."""
M_ARENA_MAX = -8
"""Of <malloc.h>."""
GRACE = 60.0
"""Seconds for a run to finish its step and save."""
AHEAD = 2
"""Items in flight per worker: enough that no worker waits, few enough that memory use stays small."""


def cores() -> int:
    """Return the number of cores that this process may use: fewer than there are where a scheduler allotted them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield `function(item)` of each item in order, computed in `workers` processes, or in this one if it is one.

    Args:
        function: sent once to each worker, with what it holds; a function of a module, or a partial of one.
        items: read as they are needed, a few ahead.
        workers: at least 1.

    Raises:
        GenusError: a worker was killed; or what `function` raises.
    """
    if workers == 1:
        yield from map(function, items)
        return
    context = get_context("spawn")  # fork copies locks (of PyTorch and others) without the threads that hold them
    with ProcessPoolExecutor(workers, context, _start_worker, (function, os.getpid())) as pool:
        waiting = iter(items)
        flying = deque(pool.submit(_work, item) for item in itertools.islice(waiting, AHEAD * workers))
        try:
            while flying:
                yield flying.popleft().result()
                flying.extend(pool.submit(_work, item) for item in itertools.islice(waiting, 1))
        except BrokenProcessPool:
            raise GenusError("a worker was killed, perhaps for want of memory; run again with fewer to go on") from None
        finally:
            pool.shutdown(cancel_futures=True)


_function: Callable[[Any], Any]
"""The function of a worker process, whose caches persist over all of its items."""


def _start_worker(function: Callable[[Any], Any], parent: int) -> None:
    global _function
    end_with(parent)
    _function = function
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one process, one thread
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C


def _work(item: Any) -> Any:
    return _function(item)


def share_arenas(most: int = ARENAS) -> None:
    """Let all threads of this process allocate in so many arenas of glibc, so that less memory is kept that is free.

    glibc has up to 8 for each core, and each keeps what its threads once needed (mallopt(3), `M_ARENA_MAX`). Nothing
    happens where another allocator is used, or the environment says how many.
    """
    if "MALLOC_ARENA_MAX" in os.environ or "arena_max" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, most)


def return_memory() -> None:
    """Return freed memory to the system, of all arenas of this process (malloc_trim(3)); only glibc keeps it back."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


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

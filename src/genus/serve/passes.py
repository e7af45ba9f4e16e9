"""The thread of all forward passes of a server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Passes:
    """One thread that makes the forward passes of all models, in the order in which they are asked for.

    Passes do not take each other's cores. And each thread that has multiplied matrices keeps buffers (of MKL, 4 MB each
    and several of them), also beyond its end: threads of models that come and go leave more and more behind.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="genus-passes")

    def __call__(self, compute: Callable[[], T]) -> T:
        """Return what a function computes, in turn; what it raises is raised here."""
        return self._thread.submit(compute).result()

    def later(self, compute: Callable[[], None]) -> None:
        """Call a function in turn, for which nobody waits here."""
        self._thread.submit(compute)

    def close(self) -> None:
        """Compute what was asked for, and end."""
        self._thread.shutdown()

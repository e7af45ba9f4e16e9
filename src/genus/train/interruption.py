"""Handling of Ctrl-C (SIGINT) and SIGTERM: the first lets a run finish its step and save, the second kills it."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A context in which the first SIGINT or SIGTERM only sets `seen`."""

    def __init__(self) -> None:
        self.seen = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        """Install the signal handlers, if this is the main thread."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        os.write(2, b"\nfinishing the step and saving; once more kills\n")

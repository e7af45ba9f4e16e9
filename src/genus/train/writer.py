"""Work beside training: one piece at a time, in a thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class BackgroundWriter:
    """A context in which one piece of work at a time is done in a thread; at its end the last one is waited for."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        """Begin with no work."""
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Wait for the work in hand; what went wrong there is raised where nothing else was."""
        if kind is None:
            self.wait()
        elif self._thread is not None:
            self._thread.join()

    def start(self, work: Callable[[], None]) -> None:
        """Begin a piece of work, once the one before is done.

        Raises:
            GenusError: what went wrong in the one before.
        """
        self.wait()
        self._thread = threading.Thread(target=self._do, args=(work,), name="genus-writer")
        self._thread.start()

    def check(self) -> None:
        """Raise what has gone wrong so far; this does not wait."""
        if self._error is not None:
            self.wait()

    def wait(self) -> None:
        """Wait for the work in hand.

        Raises:
            GenusError: what went wrong in it.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # whatever it is, it is raised in the thread that waits
            self._error = error

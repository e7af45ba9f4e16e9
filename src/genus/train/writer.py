"""Background writing in a thread, one task at a time, while training continues."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class BackgroundWriter:
    """A context that runs one task at a time in a thread, and at its end waits for the last task."""

    def __init__(self, given_up: threading.Event | None = None) -> None:
        """Begin without a task; `given_up` is set if the block raises an error, for tasks that wait for others."""
        self._given_up = given_up
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        """Return the writer, which has no task yet."""
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Wait for the current task; its error is raised unless the block raised another."""
        if kind is None:
            self.wait()
        elif self._thread is not None:
            if self._given_up is not None:
                self._given_up.set()
            self._thread.join()

    def start(self, work: Callable[[], None]) -> None:
        """Start a task in the thread, after the previous one has ended.

        Raises:
            GenusError: the previous task failed.
        """
        self.wait()
        self._thread = threading.Thread(target=self._do, args=(work,), name="genus-writer")
        self._thread.start()

    @property
    def failed(self) -> bool:
        """Whether a task has failed whose error was not raised yet."""
        return self._error is not None

    def check(self) -> None:
        """Raise the error of a failed task, without waiting for a running one."""
        if self._error is not None:
            self.wait()

    def wait(self) -> None:
        """Wait for the current task.

        Raises:
            GenusError: the task failed.
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
        except BaseException as error:  # any error is raised again in the thread that waits
            self._error = error

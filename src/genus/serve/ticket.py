"""The ticket of a request: until when it is wanted, and whether its client is still there."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import Callable


class Refused(GenusError):
    """A request that is not answered; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def busy(what: str) -> Refused:
    """Return the refusal of a request for which there is no room at the moment."""
    return Refused(429, f"the server is busy: {what}; try again in a second")


@dataclass(eq=False, slots=True)
class Ticket:
    """Of one request."""

    deadline: float = float("inf")
    """By the clock of `time.monotonic`."""
    gone: threading.Event = field(default_factory=threading.Event)
    """Set when the client has left."""
    truncate: bool = True
    """Whether texts that are longer than what the model reads may lose their end; else they are refused."""
    tokens: int = 0
    """Tokens that were asked about so far."""
    texts: int = 0
    """Texts that were asked about so far."""
    model: str | None = None
    """The name of the model that answers."""
    ends: list[Callable[[], None]] = field(default_factory=list)
    """Called when the client leaves, to end what it waits for."""

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    @property
    def wanted(self) -> bool:
        """Whether an answer still finds somebody."""
        return not self.gone.is_set() and self.left > 0

    def leave(self) -> None:
        """Take note that the client has left; from any thread."""
        self.gone.set()
        for end in [*self.ends]:
            end()

    def check(self) -> None:
        """Raise what ends a request that nobody waits for any more.

        Raises:
            Refused: the client has left, or the time is over.
        """
        if self.gone.is_set():
            raise Refused(499, "the client has left")
        if self.left <= 0:
            raise Refused(504, "the time for the answer is over; ask for less at once, or give the server more seconds")


current: ContextVar[Ticket] = ContextVar("ticket", default=Ticket())  # noqa: B039  # the default is never changed
"""The ticket of the request that this thread works for; by default one without an end."""

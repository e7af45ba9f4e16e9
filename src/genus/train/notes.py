"""Notes that the processes of a run exchange through the store of `torchrun`, in any thread, without collectives."""

from __future__ import annotations

import time
from threading import Event
from typing import TYPE_CHECKING, Any

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL = 0.02
"""Seconds between two looks at the store."""


class Notes:
    """Short texts by key, of one process or of each; a key is used once, and `turn` tells users of keys apart."""

    def __init__(self, store: Any, rank: int, size: int, turn: int = 0) -> None:
        self.store, self.rank, self.size = store.clone(), rank, size  # a client of its own: threads do not wait in line
        self.turn = turn
        self.given_up = Event()
        """Set where nobody is to be waited for any more, as another process has ended."""

    def from_first(self, key: str, text: Callable[[], str]) -> str:
        """Return the text of the first process, which alone makes it."""
        if self.rank == 0:
            self.store.set(self._full(key), text())
        return self._read(self._full(key))

    def from_each(self, key: str, text: str) -> list[str]:
        """Return the texts of all processes, by rank."""
        self.store.set(self._full(f"{key}/{self.rank}"), text)
        return [self._read(self._full(f"{key}/{rank}")) for rank in range(self.size)]

    def _full(self, key: str) -> str:
        return f"genus/notes/{self.turn}/{key}"

    def _read(self, key: str) -> str:
        try:
            while not self.store.check([key]):
                if self.given_up.is_set():
                    raise GenusError("another process of the run has ended")
                time.sleep(INTERVAL)
            return bytes(self.store.get(key)).decode()
        except RuntimeError as error:  # the process that keeps the store has ended
            raise GenusError(f"the store of torchrun cannot be reached ({str(error).partition(chr(10))[0]})") from None

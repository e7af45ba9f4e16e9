"""Processes of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.curate.engines import Engine, Item, Result
from genus.part import Count
from genus.processes import cores, in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class LocalProcesses(Engine):
    """Processes of this machine; with one, everything is done in this process."""

    workers: Count | None = None
    """None: one for each core."""

    @property
    def number(self) -> int:
        """Number of processes."""
        return self.workers or cores()

    @property
    def alone(self) -> bool:
        """Whether there is one process."""
        return self.number == 1

    def in_order(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` of each item in order.

        Raises:
            GenusError: a worker was killed: the same command goes on; or what `function` raises.
        """
        return in_order(function, items, self.number)

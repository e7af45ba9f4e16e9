"""Engines: where the shards of a curation are made. What a step does with a shard knows nothing of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Part, ABC):
    """The slot of engines. The result never depends on the engine."""

    @property
    @abstractmethod
    def alone(self) -> bool:
        """Whether everything is done in this process."""

    @abstractmethod
    def in_order(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` of each item, in order; items are read a few ahead.

        Args:
            function: a function of a module, or an object with its choices, that can be sent to other processes. It may
                be called again for an item of which a worker died.
            items: what can be sent too.

        Raises:
            GenusError: the engine cannot go on; or what `function` raises.
        """

    @contextmanager
    def running(self) -> Iterator[None]:
        """Hold what the engine needs while the block runs."""
        yield

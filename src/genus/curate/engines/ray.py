"""A cluster of machines, by Ray."""

from __future__ import annotations

import itertools
import os
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from genus.curate.engines import Engine, Item, Result
from genus.errors import GenusError, library
from genus.files import reason
from genus.processes import AHEAD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

AGAIN = -1
"""How often Ray begins a shard anew of which a worker or its machine died: without end, as a shard is a function."""


class Ray(Engine):
    """The machines of a Ray cluster, of which each has genus and sees the text and the folder.

    A shard of which a worker was killed, or its machine lost, is made again by another.
    """

    address: str | None = None
    """Of the cluster's head, such as `auto` or `10.0.0.1:6379`; None: a cluster of this machine, for this run."""

    @property
    def alone(self) -> bool:
        """Work is done in other processes."""
        return False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Connect to the cluster, or begin one.

        Raises:
            GenusError: Ray is not installed, or the cluster does not answer.
        """
        ray = library("ray", "--engine ray", "cluster")
        if ray.is_initialized():  # by whoever called
            yield
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to others
        begun: dict[str, Any] = {"include_dashboard": False} if self.address is None else {"address": self.address}
        try:
            ray.init(**begun, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # whatever the library raises, such as ConnectionError
            where = self.address or "a cluster of this machine"
            raise GenusError(f"{where}: Ray cannot be reached ({reason(error).splitlines()[0]})") from None
        try:
            yield
        finally:
            ray.shutdown()

    def in_order(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` of each item in order, computed anywhere in the cluster.

        Raises:
            GenusError: the cluster is lost; or what `function` raises.
        """
        ray = library("ray", "--engine ray", "cluster")
        work, held = ray.remote(num_cpus=1, max_retries=AGAIN)(_call), [ray.put(function)]
        waiting = iter(items)
        most = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        flying = deque(work.remote(held, item) for item in itertools.islice(waiting, most))
        try:
            while flying:
                yield ray.get(flying.popleft())
                flying.extend(work.remote(held, item) for item in itertools.islice(waiting, 1))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise GenusError(f"the Ray cluster is lost ({reason(error)}); run again to go on") from None
        finally:
            for one in flying:
                ray.cancel(one, force=True)


_functions: dict[str, Callable[[Any], Any]] = {}
"""The function of a worker by its reference, whose caches persist over all of its items; of the latest alone."""


def _call(held: list[Any], item: Any) -> Any:
    """Return what the function that is held makes of an item: within a list it is no argument that Ray reads anew."""
    name = held[0].hex()
    if name not in _functions:
        _functions.clear()
        _functions[name] = library("ray", "--engine ray", "cluster").get(held[0])
    return _functions[name](item)

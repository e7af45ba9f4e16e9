"""Groups of cores, one for each worker process: apart, each within a NUMA node where there are several.

Threads of a worker that stay on cores of one node have its memory near, and those of another worker do not drive them
from their caches.

Source: Linux, Documentation/ABI/stable/sysfs-devices-node (nodeN/cpulist) and sysfs-devices-system-cpu
(cpuN/topology/thread_siblings_list); Documentation/admin-guide/cputopology.rst (the form of lists).
"""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

SYSTEM = Path("/sys/devices/system")
Group = tuple[int, ...]
Item = TypeVar("Item")


def core_groups(workers: int, system: Path = SYSTEM, allowed: Collection[int] | None = None) -> tuple[Group, ...]:
    """Return the cores of each worker: all that this process may use, shared out evenly, neighbors together.

    Fewer workers than nodes have whole nodes; both threads of a physical core go to one worker if they can.
    There are no groups of one worker, of fewer cores than workers, and where the system pins no process: not Linux.

    Args:
        workers: how many.
        system: where the kernel tells of nodes and cores.
        allowed: the cores; None: those that this process may use.
    """
    if allowed is None:
        allowed = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else ()
    if not 1 < workers <= len(allowed):
        return ()
    nodes = _nodes(system, frozenset(allowed))
    if workers <= len(nodes):
        return tuple(tuple(sorted(core for node in part for core in node)) for part in _parts(nodes, workers))
    shares = _shares([len(node) for node in nodes], workers)
    return tuple(
        tuple(sorted(part))
        for node, share in zip(nodes, shares, strict=True)
        for part in _parts(_neighbors(system, node), share)
    )


def pin(group: Group) -> None:
    """Let this thread, and all that it starts from now on, run on these cores alone; without any nothing changes."""
    if group:
        with suppress(OSError):  # a core that was taken from the process since
            os.sched_setaffinity(0, group)


def told(groups: Sequence[Group]) -> str:
    """Return which cores each worker has, in the form of lists in Linux, as `0-3 | 4-7`."""
    return " | ".join(map(_list_of, groups))


def _nodes(system: Path, allowed: frozenset[int]) -> list[list[int]]:
    """Return the allowed cores of each NUMA node that has any; all in one where the kernel tells of none."""
    paths = sorted(system.glob("node/node[0-9]*/cpulist"), key=lambda path: int(path.parent.name.removeprefix("node")))
    found = [sorted(_cores_in(path) & allowed) for path in paths]
    known = {core for node in found for core in node}
    rest = sorted(allowed - known)
    return [node for node in (*found, rest) if node]


def _neighbors(system: Path, cores: Iterable[int]) -> list[int]:
    """Return cores in an order in which those of one physical core stand together."""

    def first(core: int) -> tuple[int, int]:
        siblings = _cores_in(system / "cpu" / f"cpu{core}" / "topology" / "thread_siblings_list")
        return min(siblings, default=core), core

    return sorted(cores, key=first)


def _cores_in(path: Path) -> set[int]:
    """Return the numbers of a list such as `0-3,8`; none of a file that is not there or says something else."""
    found: set[int] = set()
    with suppress(OSError, ValueError):
        for part in path.read_text(encoding="utf-8").strip().split(","):
            first, _, last = part.partition("-")
            found |= {*range(int(first), int(last or first) + 1)}
    return found


def _shares(sizes: Sequence[int], workers: int) -> list[int]:
    """Return how many workers each node has, one at least: each further one goes where workers have most cores."""
    found = [1] * len(sizes)
    while sum(found) < workers:
        fullest = max(range(len(sizes)), key=lambda node: sizes[node] / found[node])
        found[fullest] += 1
    return found


def _parts(items: Sequence[Item], number: int) -> list[Sequence[Item]]:
    """Return so many runs of neighbors, whose sizes differ by one at most, the larger ones first."""
    size, more = divmod(len(items), number)
    ends = [part * size + min(part, more) for part in range(number + 1)]
    return [items[first:last] for first, last in pairwise(ends)]


def _list_of(cores: Group) -> str:
    runs: list[list[int]] = []
    for core in cores:
        if runs and core == runs[-1][-1] + 1:
            runs[-1].append(core)
        else:
            runs.append([core])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)

"""Hours of a server under mixed load: right, odd, huge, slow and abandoned requests; a worker that is killed.

    python benchmarks/soak.py --seconds 3600 --fuzz 10000

`genus serve` with five small models of random weights (vectors, labels, entities, answers, masks) gets so many requests
a second at random moments, over all its routes. It is right if every request is answered that was not abandoned, none
with 500; if every answer that is known equals the library's within 1e-5; if its memory does not grow once it is warm
(MARGIN); and if its log has no traceback. Then two workers get the same load, and one is killed: only what it worked on
may be lost, and another takes its place. `--fuzz` sends so many bodies that are mutations of right ones.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from soak_requests import Asked, huge, model_folders, odd, right_requests
from soak_server import PATIENCE, Server, exchange, megabytes

from genus.files import write_json
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

RESULTS = Path(__file__).parent / "results" / "soak.json"
KINDS = {"right": 0.6, "odd": 0.15, "huge": 0.03, "slow": 0.1, "abandoned": 0.1, "reload": 0.02}
"""Shares of the requests."""
AT_ONCE = 64
"""Requests at once, at most; others wait for their turn."""
WARM = 1 / 3
"""The share of the time after which memory is not to grow."""
APART, PAUSE = 60.0, 8.0
"""Seconds between two pauses of the load, and of a pause once all is answered. At its end memory is looked at: by then
a server has returned what is free, and what it has stays, whatever was asked for just before."""
MARGIN = 0.02
"""By how much of itself memory may grow in the rest of the time, by the slope of a straight line: allocators' noise."""
SLOW = 1.5
"""Seconds over which a slow client sends a request at most."""
KNOWN = 12
"""Right requests of each route."""
TOLD = 20
"""Faults that are kept."""


@dataclass
class Load:
    """Requests at random moments, and what became of them."""

    port: int
    known: list[Asked]
    draw: random.Random
    statuses: Counter[str] = field(default_factory=Counter)
    """By kind and status; `none`: there was no answer."""
    faults: list[str] = field(default_factory=list)
    checked: int = 0
    """Answers that were compared with the library's."""
    lost: list[float] = field(default_factory=list)
    """When requests were sent that were not answered."""

    async def one(self, kind: str) -> None:
        """Send a request of a kind, and check its answer."""
        asked, options = self.drawn(kind)
        begun = time.monotonic()
        status, body = await exchange(self.port, asked, **options)
        self.statuses[f"{kind} {status or 'none'}"] += 1
        if kind == "abandoned":
            return
        if not status:
            self.lost.append(begun)
        elif kind in ("right", "slow") and status != 200:
            self.faults.append(f"{kind} {asked.path}: {status} {body[:200]!r}")
        elif status == 500:
            self.faults.append(f"{kind} {asked.path}: {status}; {asked.content[:300]!r}")
        elif kind in ("right", "slow"):
            self.checked += asked.expected is not None
            self.faults += filter(None, [asked.wrong(body)])

    def drawn(self, kind: str) -> tuple[Asked, dict[str, Any]]:
        """Return a request of a kind, and how it is sent."""
        asked, draw = self.draw.choice(self.known), self.draw
        if kind == "odd":
            return odd(self.known, draw), {}
        if kind == "huge":
            asked, length = huge(draw)
            return asked, {"length": length}
        if kind == "reload":
            return Asked(f"/v2/repository/models/masked/{draw.choice(['load', 'unload'])}", {}), {}
        if kind == "slow":
            pieces = draw.randint(2, 30)
            return asked, {"pieces": pieces, "pause": draw.uniform(0, SLOW) / pieces}
        if kind == "abandoned":
            return asked, {
                "pieces": draw.choice([1, 1, 5]),
                "pause": 0.005,
                "leave": draw.choice([0, 0.005, 0.02, 0.1]),
            }
        return asked, {}

    async def run(
        self,
        seconds: float,
        rate: float,
        each_second: Callable[[float], Awaitable[None]],
        settled: Callable[[float], None] = lambda at: None,
    ) -> int:
        """Send so many requests a second, with pauses, at whose ends `settled` is told; return how many that were."""
        places, tasks, sent = asyncio.Semaphore(AT_ONCE), set[asyncio.Task[None]](), 0
        begun = due = paused = time.monotonic()
        watch = asyncio.create_task(ticking(begun, each_second))

        async def placed(kind: str) -> None:
            try:
                await self.one(kind)
            except Exception as error:  # whatever it is, it is told
                self.faults.append(f"{kind}: {type(error).__name__}: {error}")
            finally:
                places.release()

        while due - begun < seconds:
            if due - paused > APART:
                await asyncio.gather(*tasks)
                await asyncio.sleep(PAUSE)
                due = paused = time.monotonic()
                settled(due - begun)
            await places.acquire()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            (kind,) = self.draw.choices([*KINDS], [*KINDS.values()])
            task = asyncio.create_task(placed(kind))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due, sent = max(due, time.monotonic() - 1) + self.draw.expovariate(rate), sent + 1
        await asyncio.gather(*tasks)
        watch.cancel()
        return sent

    def summary(self, sent: int) -> dict[str, Any]:
        """Return what became of the requests."""
        return {"requests": sent, "checked": self.checked, "statuses": dict(sorted(self.statuses.items())),
                "faults": len(self.faults), "first_faults": self.faults[:TOLD]}  # fmt: skip


async def ticking(begun: float, each_second: Callable[[float], Awaitable[None]]) -> None:
    """Call a function each second, with the time."""
    for number in range(1, 10**9):
        await asyncio.sleep(max(0.0, begun + number - time.monotonic()))
        await each_second(time.monotonic() - begun)


def growth(memory: list[tuple[float, float]], seconds: float) -> dict[str, Any]:
    """Return the slope of memory in pauses after the server is warm, by least squares, and how far it rises by that."""
    times, sizes = np.array([one for one in memory if one[0] >= WARM * seconds]).T
    slope, _ = np.polyfit(times, sizes, 1)
    grown = float(slope * (times[-1] - times[0]) / np.median(sizes))
    return {
        "warm_after_seconds": round(WARM * seconds),
        "median_megabytes": round(float(np.median(sizes)), 1),
        "megabytes_an_hour": round(float(slope) * 3600, 2),
        "grown_by": round(grown, 4),
        "margin": MARGIN,
        "megabytes": [round(size, 1) for _, size in memory[:: max(1, len(memory) // 60)]],
    }


async def soak(server: Server, load: Load, seconds: float, rate: float) -> dict[str, Any]:
    """Return what a server of one process makes of the load."""
    memory: list[tuple[float, float]] = []
    quiet: list[tuple[float, float]] = []

    async def look(at: float) -> None:
        memory.append((at, megabytes(server.process.pid)))
        if len(memory) % 60 == 0:
            print(f"{at:.0f} s, {load.checked:,} answers checked, {memory[-1][1]:.0f} MB, {len(load.faults)} faults")

    await server.ready()
    sent = await load.run(seconds, rate, look, lambda at: quiet.append((at, megabytes(server.process.pid))))
    load.faults += [f"{len(load.lost)} requests were not answered"] if load.lost else []
    grown = growth(quiet, seconds) | {
        "under_load": [round(size, 1) for _, size in memory[:: max(1, len(memory) // 60)]]
    }
    load.faults += [f"memory grew by {grown['grown_by']:.1%}"] if grown["grown_by"] > MARGIN else []
    return {"seconds": seconds, "requests_per_second": rate, "memory": grown} | load.summary(sent)


async def kill_workers(server: Server, load: Load, seconds: float, rate: float) -> dict[str, Any]:
    """Return what two workers make of the load, of which one is killed after a third of the time."""
    await server.ready()
    first, killed = server.workers, list[float]()

    async def look(at: float) -> None:
        if at > seconds / 3 and not killed:
            os.kill(first[0], signal.SIGKILL)
            killed.append(time.monotonic())

    sent = await load.run(seconds, rate, look)
    late = [when for when in load.lost if not killed or not killed[0] - PATIENCE < when < killed[0] + 0.1]
    load.faults += [f"{len(late)} requests were not answered beside those of the killed worker"] if late else []
    until = time.monotonic() + PATIENCE
    while len(server.workers) < 2 and time.monotonic() < until:
        await asyncio.sleep(0.2)
    load.faults += [] if len(server.workers) == 2 else ["no worker takes the place of the one that was killed"]
    told = {"workers": 2, "seconds": seconds, "requests_per_second": rate, "lost_with_the_worker": len(load.lost)}
    return told | load.summary(sent)


async def fuzz(server: Server, load: Load, number: int) -> dict[str, Any]:
    """Return what a server makes of so many odd bodies, eight at once; afterwards right ones are answered."""
    await server.ready()
    upcoming = iter(range(number))

    async def client() -> None:
        for _ in upcoming:
            await load.one("odd")

    await asyncio.gather(*(client() for _ in range(8)))
    for asked in load.known:
        status, body = await exchange(server.port, asked)
        load.checked += asked.expected is not None
        load.faults += filter(None, [asked.wrong(body) if status == 200 else f"{asked.path}: {status} afterwards"])
    load.faults += [f"{len(load.lost)} were not answered"] if load.lost else []
    return {"bodies": number} | load.summary(number)


@contextmanager
def serving(folders: dict[str, Path], log: Path, found: list[str], *arguments: str) -> Iterator[Server]:
    """Context manager: a server; what is wrong with how it ends is added to what was found."""
    server = Server(folders, log, *arguments)
    try:
        yield server
        found += server.end()
    finally:
        server.process.kill()
        server.process.wait()
        assert server.process.stdout is not None
        server.process.stdout.close()


def measure(options: argparse.Namespace, where: Path) -> dict[str, Any]:
    """Return what was found of each kind."""
    torch.set_num_threads(1)
    folders = model_folders(where / "models")
    known = right_requests(folders, KNOWN, random.Random(options.seed))
    found: dict[str, Any] = {}
    parts = {"fuzz": options.fuzz, "soak": options.seconds, "workers": options.worker_seconds}
    for part in [name for name, size in parts.items() if size]:
        arguments = ["--workers", "2"] if part == "workers" else []
        ends: list[str] = []
        with serving(folders, where / f"{part}.log", ends, *arguments) as server:
            load = Load(server.port, known, random.Random(f"{part} {options.seed}"))
            if part == "fuzz":
                found[part] = asyncio.run(fuzz(server, load, options.fuzz))
            else:
                run = soak if part == "soak" else kill_workers
                found[part] = asyncio.run(run(server, load, parts[part], options.rate))
        found[part]["at_its_end"] = ends
        print(part, {name: value for name, value in found[part].items() if name != "memory"}, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600, help="of the load on one process; 0: none")
    parser.add_argument("--worker-seconds", type=float, default=90, help="of the load on two workers; 0: none")
    parser.add_argument("--rate", type=float, default=20, help="requests a second")
    parser.add_argument("--fuzz", type=int, default=0, metavar="N", help="odd bodies")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="genus-soak-") as folder:
        found = measure(options, Path(folder))
    write_json(options.results, {**surroundings(torch.device("cpu")), "seed": options.seed, **found})
    if any(part["faults"] or part["at_its_end"] for part in found.values()):
        sys.exit("something is wrong; see the results")


if __name__ == "__main__":
    main()

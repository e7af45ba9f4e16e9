"""How many requests a service answers, and how late, beside plain services of the same model in one run.

    python benchmarks/serving.py --model FOLDER --data ../shared/data

Each service is a process of its own with all cores: `genus serve`, and handlers of FastAPI that call
sentence-transformers and ONNX Runtime (`serving_peer.py`). Requests have one text each, of the lengths that news,
captions and questions have. *Closed loop*: so many clients, each of which asks again when it is answered. *Open loop*:
requests come at random moments at a rate, whether or not those before are answered. The last lines say what the
services answer within the same 99th percentile, and what of genus's time is no forward pass.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genus.files import write_json
from genus.tasks.table import rows
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RESULTS = Path(__file__).parent / "results" / "serving-cpu.json"
SERVICES = ("genus", "sentence-transformers", "onnxruntime")
CLIENTS = (1, 4, 16, 64)
RATES = (0.5, 0.8)
"""Of the open loop, as shares of what the slowest service answers in the closed loop."""
TABLES = {"ag_news": ("text",), "glue/stsb": ("sentence1", "sentence2"), "glue/qnli": ("question", "sentence")}
"""Tables of texts, with their columns."""
PATIENCE = 120.0
SEED = 0


def texts(data: Path, number: int) -> list[str]:
    """Return so many texts, in an order of chance, as many of each table."""
    found: list[str] = []
    for table, columns in TABLES.items():
        paths = sorted((data / table).glob("test.*")) or sorted((data / table).glob("validation.*"))
        if not paths:
            continue
        some = [str(row[column]) for _, row in rows(paths[0]) for column in columns if row.get(column)]
        found += random.Random(SEED).sample(some, min(len(some), number))
    if not found:
        sys.exit(f"--data {data}: none of {', '.join(TABLES)} is there")
    random.Random(SEED).shuffle(found)
    return found[:number]


def free_port() -> int:
    """Return a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


@contextmanager
def running(service: str, model: Path) -> Iterator[int]:
    """Context manager: the port of a service that is warm."""
    port = free_port()
    peer = Path(__file__).parent / "serving_peer.py"
    command = [str(peer), service, str(model), str(port)]
    if service == "genus":
        command = ["-m", "genus", "serve", str(model), "--port", str(port), "--run", "precision=float32"]
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                asyncio.run(post(port, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"))
                break
            except (OSError, ValueError):
                if time.monotonic() > until or process.poll() is not None:
                    sys.exit(f"{service} did not start")
                time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)


def request(text: str) -> bytes:
    """Return a request to embed a text."""
    body = json.dumps({"inputs": [text]}).encode()
    head = f"POST /embed HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection:
    """A connection that is kept, of a client that costs little time itself."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: Any = None

    async def ask(self, given: bytes) -> bytes:
        """Return the body of the answer; ValueError: its status is not 200."""
        kept = self.streams is not None
        try:
            head = await self._head(given)
        except (ConnectionError, asyncio.IncompleteReadError):
            if not kept:
                raise
            self.close()  # an idle connection, which the server has closed
            self.streams = None
            head = await self._head(given)
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise ValueError(head.decode())
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return bytes(await self.streams[0].readexactly(length))

    async def _head(self, given: bytes) -> bytes:
        """Send a request; return the head of its answer."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        writer.write(given)
        return bytes(await reader.readuntil(b"\r\n\r\n"))

    def close(self) -> None:
        """Close the connection."""
        if self.streams is not None:
            self.streams[1].close()


async def post(port: int, given: bytes) -> bytes:
    """Return the answer to one request."""
    connection = Connection(port)
    try:
        return await connection.ask(given)
    finally:
        connection.close()


async def closed(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> tuple[list[float], float]:
    """Return the seconds that each request took, and those of all, with so many clients."""
    taken: list[float] = []
    begun = time.perf_counter()
    upcoming = iter(range(10**9))

    async def client() -> None:
        connection = Connection(port)
        while time.perf_counter() - begun < seconds:
            started = time.perf_counter()
            await connection.ask(requests[next(upcoming) % len(requests)])
            taken.append(time.perf_counter() - started)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return taken, time.perf_counter() - begun


async def opened(port: int, requests: Sequence[bytes], rate: float, seconds: float) -> tuple[list[float], float]:
    """Return the same for requests that come at random moments, so many a second."""
    taken: list[float] = []
    draws, begun = random.Random(SEED), time.perf_counter()
    idle: list[Connection] = []
    asked = []

    async def one(number: int, due: float) -> None:
        connection = idle.pop() if idle else Connection(port)
        await connection.ask(requests[number % len(requests)])
        taken.append(time.perf_counter() - due)
        idle.append(connection)

    due, number = begun, 0
    while due - begun < seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asked.append(asyncio.create_task(one(number, due)))
        due += draws.expovariate(rate)
        number += 1
    await asyncio.gather(*asked)
    for connection in idle:
        connection.close()
    return taken, time.perf_counter() - begun


def told(taken: Sequence[float], seconds: float) -> dict[str, float]:
    """Return requests a second, and percentiles of their milliseconds."""
    percentiles = {f"p{one}": round(1000 * float(np.percentile(taken, one)), 2) for one in (50, 95, 99)}
    return {"requests_per_second": round(len(taken) / seconds, 2), **percentiles}


def measure(options: argparse.Namespace, requests: Sequence[bytes]) -> dict[str, dict[str, Any]]:
    """Return what each service answers with so many clients, and at rates that the slowest bears."""
    found: dict[str, dict[str, Any]] = {}
    for service in options.services:
        with running(service, options.model) as port:
            asyncio.run(closed(port, requests, 8, options.seconds / 3))
            found[service] = {
                f"{clients} clients": told(*asyncio.run(closed(port, requests, clients, options.seconds)))
                for clients in CLIENTS
            }
            print(json.dumps({service: found[service]}), flush=True)
    slowest = min(max(one["requests_per_second"] for one in own.values()) for own in found.values())
    for service in options.services:
        with running(service, options.model) as port:
            asyncio.run(closed(port, requests, 8, options.seconds / 3))
            for share in RATES:
                rate = share * slowest
                run = asyncio.run(opened(port, requests, rate, options.seconds))
                found[service][f"{rate:.1f} requests a second"] = told(*run)
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return all numbers in Markdown, and requests a second of genus over each other service's within equal p99."""
    rows = ["| service | load | requests a second | p50, ms | p95 | p99 |", "| --- | --- | --- | --- | --- | --- |"]
    for service, loads in found.items():
        for load, one in loads.items():
            rows.append(f"| {service} | {load} | " + " | ".join(f"{value:g}" for value in one.values()) + " |")
    lines = []
    own = found.get("genus", {})
    for service in [name for name in found if name != "genus" and own]:
        best = max(found[service].values(), key=lambda one: one["requests_per_second"])
        within = [one["requests_per_second"] for one in own.values() if one["p99"] <= best["p99"]]
        ratio = max(within, default=0.0) / best["requests_per_second"]
        lines.append(f"genus answers {ratio:.2f} times as many as {service} within its p99 of {best['p99']:g} ms")
    return "\n".join([*rows, "", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="an embedder in the Hugging Face layout, as MiniLM")
    parser.add_argument("--data", type=Path, required=True, help="the folder of tables of texts")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=15, help="of each load")
    parser.add_argument("--services", nargs="+", choices=SERVICES, default=SERVICES)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    given = texts(options.data, options.texts)
    found = measure(options, [request(text) for text in given])
    print(table(found))
    command = {"texts": len(given), "seconds": options.seconds, "clients": CLIENTS}
    write_json(options.results, {**surroundings(torch.device("cpu")), "command": command, "services": found})


if __name__ == "__main__":
    main()

"""The server that `soak.py` loads, as a process, and exchanges with it over sockets."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from soak_requests import Asked

PATIENCE = 120.0
"""Seconds for what takes a few."""


class Server:
    """A process of `genus serve`, with its log."""

    def __init__(self, folders: dict[str, Path], log: Path, *arguments: str) -> None:
        self.log = log
        models = [f"{name}={folder}" for name, folder in folders.items()]
        words = ["-m", "genus", "serve", *models, "--port", "0", "--run", "precision=float32", *arguments]
        with log.open("w") as file:
            self.process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=file, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rpartition(":")[2])
        self.begun = time.monotonic()

    async def ready(self) -> None:
        """Wait until it is."""
        while (await exchange(self.port, Asked("/health")))[0] != 200:
            if time.monotonic() - self.begun > PATIENCE:
                sys.exit(f"the server does not become ready: {self.log.read_text()[-500:]}")
            await asyncio.sleep(0.2)

    @property
    def workers(self) -> list[int]:
        """The worker processes, or the only one."""
        found = [number for number in children(self.process.pid) if b"spawn_main" in told(number, "cmdline")]
        return found or [self.process.pid]

    def end(self) -> list[str]:
        """End it by SIGTERM; return what is wrong with how it ends, and with its log."""
        left = [*self.workers, self.process.pid]
        self.process.terminate()
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        faults = [f"SIGTERM: exit code {code}"] if code else []
        faults += [f"process {number} is left" for number in left if told(number, "cmdline")]
        lines = self.log.read_text(errors="replace").splitlines()
        at = [number for number, line in enumerate(lines) if "Traceback" in line or "unexpected" in line]
        return faults + ["; ".join(lines[number : number + 40])[-2000:] for number in at[:5]]


def told(number: int, what: str) -> bytes:
    """Return what the system tells of a process; nothing of one that is no more."""
    with suppress(OSError):
        return Path(f"/proc/{number}/{what}").read_bytes()
    return b""


def children(parent: int) -> list[int]:
    """Return the processes that a process started."""
    numbers = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [number for number in numbers if told(number, "stat").rpartition(b")")[2].split()[1:2] == [b"%d" % parent]]


def megabytes(number: int) -> float:
    """Return the memory of a process that is in RAM."""
    for line in told(number, "status").decode().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def exchange(
    port: int,
    asked: Asked,
    length: int | None = None,
    pieces: int = 1,
    pause: float = 0.0,
    leave: float | None = None,
) -> tuple[int, bytes]:
    """Return the status and the body of an answer; (0, b""): there is none.

    Args:
        port: the server's.
        asked: the request.
        length: that it announces; None: its own.
        pieces: in which it is sent.
        pause: seconds after each piece.
        leave: seconds after which the client closes the connection without an answer.
    """
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return 0, b""
    try:
        whole = asked.head(length) + asked.content
        size = -(-len(whole) // pieces)

        async def sent() -> tuple[int, bytes]:
            for place in range(0, len(whole), size):
                writer.write(whole[place : place + size])
                with suppress(ConnectionError):  # it may answer before it has read all
                    await writer.drain()
                if pause:
                    await asyncio.sleep(pause)
            return await answered(reader)

        if leave is None:
            return await asyncio.wait_for(sent(), PATIENCE)
        with suppress(TimeoutError):
            await asyncio.wait_for(sent(), leave)
    except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.transport.abort() if leave is not None else writer.close()
    return 0, b""


async def answered(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return the status and the body of an answer that comes."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head.split(b" ", 2)[1])
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return status, await reader.readexactly(int(line[15:]))
    if b"transfer-encoding: chunked" in head:  # a stream of events
        return status, await reader.readuntil(b"\r\n0\r\n\r\n")
    return status, b""

"""A server of models as a process, or as several (`genus.serve.workers`)."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
import uvicorn

from genus.errors import GenusError
from genus.processes import cores, share_arenas
from genus.serve.app import Loaded, application, told_in_the_log
from genus.serve.core_groups import Group, told
from genus.serve.models import Models, Source, check_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from fastapi import FastAPI

    from genus.serve.limits import Limits
    from genus.train.run import Run

TOKEN = "GENUS_SERVE_TOKEN"
"""Environment variable with the token that requests must bear."""
BACKLOG = 2048
"""Connections that wait until they are accepted, uvicorn's number."""


@dataclass(frozen=True)
class Serving:
    """What a server does; pickled, as its workers are told it."""

    sources: tuple[Source, ...]
    limits: Limits
    run: Run
    workers: int = 1
    origins: tuple[str, ...] = ()
    threads: int = field(default_factory=cores)
    """Of each worker that has no group of cores."""
    groups: tuple[Group, ...] = ()
    """The cores that each worker runs on alone, with a thread for each; none: the system places them."""
    group: Group = ()
    """Those of this worker."""

    def __post_init__(self) -> None:
        """Check the names of the models.

        Raises:
            UsageError: two have the same name, or there is none.
        """
        check_names(self.sources)

    @property
    def patience(self) -> int:
        """Seconds in which requests are answered once the server ends."""
        return int(self.limits.seconds) + 1

    def for_worker(self, number: int) -> Serving:
        """Return what worker `number` does, on its cores."""
        if not self.groups:
            return self
        return replace(self, threads=len(self.groups[number]), group=self.groups[number])

    def application(self, loaded: Loaded = told_in_the_log) -> FastAPI:
        """Return the application of this process."""
        share_arenas()
        torch.set_num_threads(self.threads)
        os.environ.setdefault("RAYON_NUM_THREADS", str(self.threads))  # of tokenizers
        models, token = Models(self.sources, self.limits, self.run), os.environ.get(TOKEN) or None
        return application(models, self.limits, token=token, origins=self.origins, loaded=loaded)


def serve(serving: Serving, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C, which let requests be answered that are there; then return.

    Args:
        serving: what is served.
        host: the address to listen at.
        port: 0 takes a free one.

    Raises:
        GenusError: the address cannot be had, or a model cannot be loaded.
        KeyboardInterrupt: Ctrl-C ended it.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with ending_well(), listen(host, port) as listening:
        name = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        print(f"http://{name}:{listening.getsockname()[1]}", flush=True)
        if serving.groups:
            print(f"{serving.workers} workers on cores {told(serving.groups)}", flush=True)
        if serving.workers == 1:
            answer(serving, listening)
            return
        from genus.serve.workers import supervise

        supervise(serving, listening)


class Server(uvicorn.Server):
    """A server that knows whether Ctrl-C ended it, also where the signal that uvicorn raises at its end gets lost."""

    interrupted = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal: the requests that are there are still answered."""
        self.interrupted |= sig == signal.SIGINT
        super().handle_exit(sig, frame)


def answer(serving: Serving, listening: socket.socket, ready: Loaded = lambda error: None) -> None:
    """Answer requests in this process, until a signal lets those be answered that are there.

    Args:
        serving: what is served.
        listening: where requests come; closed at the end.
        ready: called with None when the models are loaded.

    Raises:
        GenusError: a model cannot be loaded.
        KeyboardInterrupt: Ctrl-C ended it.
    """
    failed: list[Exception] = []

    def loaded(error: Exception | None) -> None:
        if error is None:
            ready(None)
        else:
            failed.append(error)
            server.should_exit = True

    config = uvicorn.Config(
        serving.application(loaded),
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        timeout_graceful_shutdown=serving.patience,
    )
    server = Server(config)

    def end() -> None:
        server.should_exit = True  # it starts, and ends as it ends later

    with ending_well(end):
        server.run(sockets=[listening])
    if server.interrupted:
        raise KeyboardInterrupt
    if failed:
        raise failed[0]


@contextmanager
def ending_well(end: Callable[[], None] = sys.exit) -> Iterator[None]:
    """Context manager: SIGTERM calls a function, by default to end the process at once with exit code 0.

    So it is until uvicorn takes signals. When a server has ended, uvicorn raises its signal again, which would kill the
    process.
    """
    before = signal.signal(signal.SIGTERM, lambda number, frame: end())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens: who connects before the server accepts waits for it.

    Raises:
        GenusError: the address is used, forbidden or none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # only then asyncio sets TCP_NODELAY
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            raise GenusError(f"--port: {port} is in use; take another, or 0 for a free one") from None
        raise GenusError(f"--host {host} --port {port}: {error.strerror or error}; take another") from None
    return made

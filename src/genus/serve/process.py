"""The processes of a server: one, or several workers that are started again when one dies."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
import uvicorn

from genus.errors import GenusError
from genus.processes import cores
from genus.serve.app import application
from genus.serve.limits import Limits
from genus.serve.metrics import FOLDER
from genus.serve.models import Models, Source
from genus.train.run import Run

if TYPE_CHECKING:
    from fastapi import FastAPI

CONFIGURATION = "GENUS_SERVE"
"""Environment variable by which workers learn what they serve; the token is not in it."""
TOKEN = "GENUS_SERVE_TOKEN"
"""Environment variable with the token that requests must bear."""
FACTORY = "genus.serve.process:worker"


@dataclass(frozen=True)
class Serving:
    """What a server does, as workers are told it."""

    sources: tuple[Source, ...]
    limits: Limits
    run: Run
    workers: int = 1
    origins: tuple[str, ...] = ()
    threads: int = field(default_factory=cores)
    """Of each worker."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        sources = [{name: value and str(value) for name, value in asdict(one).items()} for one in self.sources]
        parts = {"limits": self.limits.to_json(), "run": self.run.to_json()}
        return {"sources": sources, **parts, "origins": self.origins, "threads": self.threads, "workers": self.workers}

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> Serving:
        """Return what `to_json` gave."""
        sources = tuple(
            Source(one["name"], Path(one["folder"]), one["base"] and Path(one["base"])) for one in given["sources"]
        )
        limits, run = Limits.from_json(given["limits"]), Run.from_json(given["run"])
        return cls(sources, limits, run, given["workers"], tuple(given["origins"]), given["threads"])

    def application(self) -> FastAPI:
        """Return the application of this process."""
        torch.set_num_threads(self.threads)
        models = Models(self.sources, self.limits, self.run)
        return application(models, self.limits, token=os.environ.get(TOKEN) or None, origins=self.origins)


def worker() -> FastAPI:
    """Return the application of a worker process."""
    return Serving.from_json(json.loads(os.environ[CONFIGURATION])).application()


def serve(serving: Serving, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C, which let requests be answered that are there; then return.

    Args:
        serving: what is served.
        host: the address to listen at.
        port: 0 takes a free one.

    Raises:
        GenusError: the address cannot be had, or a model cannot be loaded.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    listening = listen(host, port)
    at = listening.getsockname()[1]
    print(f"http://{'localhost' if host in ('127.0.0.1', '0.0.0.0', '::') else host}:{at}", flush=True)
    options: dict[str, Any] = {
        "log_config": None,
        "access_log": False,
        "timeout_graceful_shutdown": int(serving.limits.seconds) + 1,
    }
    if serving.workers == 1:
        config = uvicorn.Config(serving.application(), **options)
        uvicorn.Server(config).run(sockets=[listening])
        return
    listening.close()  # each worker takes what their supervisor opens
    os.environ[CONFIGURATION] = json.dumps(serving.to_json())
    with TemporaryDirectory(prefix="genus-metrics-") as folder:
        os.environ[FOLDER] = folder
        uvicorn.run(FACTORY, factory=True, workers=serving.workers, host=host, port=at, **options)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        GenusError: the address is used, forbidden or none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # only then asyncio sets TCP_NODELAY
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            raise GenusError(f"--port: {port} is in use; take another, or 0 for a free one") from None
        raise GenusError(f"--host {host} --port {port}: {error.strerror or error}; take another") from None
    made.set_inheritable(True)
    return made

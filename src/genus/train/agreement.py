"""Agreement of the processes of a run, whose sums mean nothing unless all have the same recipe, settings and code."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from genus.errors import UsageError
from genus.train.world import device_of_run, notes

if TYPE_CHECKING:
    from genus.part import Part
    from genus.train.run import Run


def check_processes(run: Run, choices: Part) -> None:
    """Check the device of this process, and that all were started alike; every process must call this.

    They must fit the way of parallelism, and have the same choices and code. Devices, threads and workers may differ.

    Raises:
        UsageError: they do not; in all processes alike, but for a missing device.
    """
    device_of_run(run)
    exchange = notes()
    run.parallel.axes(1 if exchange is None else exchange.size)
    if exchange is None:
        return
    alike = replace(run, device="auto", threads=None, workers=None)
    own = {"recipe": choices.hash(), "run settings": alike.hash(), "code": _code()}
    every = [json.loads(text) for text in exchange.from_each("agreement", json.dumps(own))]
    for rank, told in enumerate(every):
        for what, value in told.items():
            if value != every[0][what]:
                raise UsageError(f"process {rank} has other {what} than process 0; start all processes with the same "
                                 "command and the same installation")  # fmt: skip


@functools.cache
def _code() -> str:
    """Return the SHA-256 of the package's source and of PyTorch's version."""
    digest = hashlib.sha256(torch.__version__.encode())
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()

"""Processes that are forks of a clean one with PyTorch in it, where how a process starts is not what is tested.

A process that imports PyTorch and the compiler, which the first update of an optimizer needs, takes seconds for it.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed import TCPStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

PRELOAD = ["torch._dynamo", "genus.cli", "genus.pipeline", "genus.train.loop", "genus.tasks.finetune"]
PRELOAD += ["genus.serve.app", "uvicorn", "genus.export.layouts.bert"]
PRELOAD += ["genus.model.transformer", "genus.objectives.pretraining.masked_lm"]
PATIENCE = 300.0
"""Seconds for what takes a few: processes that take longer hang."""


def process(target: Callable[..., object], *arguments: object) -> BaseProcess:
    """Start a function of a module that can be imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    started = context.Process(target=target, args=arguments)
    started.start()
    return started


def ranks(number: int, module: str, *arguments: object) -> None:
    """Run the function `main` of a module in several processes, as torchrun starts them on one machine.

    As there, the rendezvous store is that of the process that starts them, so that any of them may end first.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=PATIENCE))
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    place |= {"WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number), "OMP_NUM_THREADS": "1"}
    receive, send = multiprocessing.Pipe(duplex=False)
    own = [place | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(number)]
    started = [process(_rank, one, module, arguments, send) for one in own]
    for one in started:
        one.join(PATIENCE)
        one.kill()
    told = [receive.recv() for _ in iter(receive.poll, False)]
    assert [one.exitcode for one in started] == [0] * number, "\n".join(told)


def _rank(place: Mapping[str, str], module: str, arguments: tuple[Any, ...], errors: Connection) -> None:
    os.environ.update(place)
    torch.set_num_threads(1)
    try:
        importlib.import_module(module).main(*arguments)
    except BaseException:
        errors.send(f"rank {place['RANK']}: {traceback.format_exc()}")
        raise


def command(
    arguments: list[str], errors: Path, out: Connection | None = None, before: Callable[[], object] | None = None
) -> BaseProcess:
    """Start the command line.

    Args:
        arguments: its arguments.
        errors: a file for what it says on standard error.
        out: a pipe for what it prints.
        before: a function of a module that is called in the process first.
    """
    return process(_command, arguments, errors, out, before)


def _command(arguments: list[str], errors: Path, out: Connection | None, before: Callable[[], object] | None) -> None:
    from genus.cli import main

    torch.set_num_threads(1)
    with Path(os.devnull).open("w") as null, errors.open("w") as file:
        os.dup2(null.fileno() if out is None else out.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    if out is not None:
        out.close()
    if before is not None:
        before()
    code = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

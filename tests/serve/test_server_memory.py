"""A server's memory: threads share arenas, and what is freed goes back to the system."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from serving import running, small_model

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 120
"""Seconds for what takes none on a free core."""

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

ARENAS = """
import ctypes, tempfile, threading
from genus.processes import share_arenas
share_arenas()
libc, gate = ctypes.CDLL(None), threading.Barrier(17)
libc.malloc.restype, libc.fopen.restype = ctypes.c_void_p, ctypes.c_void_p
def allocate():
    libc.malloc(1000)
    gate.wait()
threads = [threading.Thread(target=allocate) for _ in range(16)]
for thread in threads:
    thread.start()
gate.wait()
with tempfile.NamedTemporaryFile("r") as told:
    file = ctypes.c_void_p(libc.fopen(told.name.encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    print(told.read().count("<heap "))
"""


@needs_glibc
def test_threads_share_arenas() -> None:
    known = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}

    def arenas(**more: str) -> int:
        words = [sys.executable, "-c", ARENAS]
        return int(subprocess.run(words, env=known | more, check=True, capture_output=True, text=True).stdout)

    assert arenas() == 1
    assert arenas(MALLOC_ARENA_MAX="16") > 2, "the environment says how many"


RETURNED = """
from pathlib import Path
import torch
from genus.model.cpu import disable_malloc_trim
from genus.processes import return_memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
disable_malloc_trim()
parts = [torch.zeros(250_000) for _ in range(100)]  # of 1 MB
kept, parts = parts[::10], None
before = resident()
return_memory()
print(before - resident())
"""


@needs_glibc
def test_freed_memory_between_what_is_kept_is_returned() -> None:
    words = [sys.executable, "-c", RETURNED]
    assert float(subprocess.run(words, check=True, capture_output=True, text=True).stdout) > 60


def test_memory_is_returned_while_requests_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small_model(tmp_path / "lm")
    returned: list[float] = []
    monkeypatch.setattr("genus.serve.service.RETURNED", 0.05)
    monkeypatch.setattr("genus.serve.service.return_memory", lambda: returned.append(time.monotonic()))
    with running({"lm": folder}) as address:
        time.sleep(0.3)
        assert not returned, "nothing was asked"
        for _ in range(2):
            before = len(returned)
            assert httpx.post(f"http://{address}/embed", json={"inputs": "a"}, timeout=PATIENCE).status_code == 200
            until = time.monotonic() + PATIENCE
            while len(returned) == before and time.monotonic() < until:
                time.sleep(0.01)
        time.sleep(0.3)
        assert len(returned) == 2

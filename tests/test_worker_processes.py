"""Worker processes end with their parent, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

READS = """
import sys
from pathlib import Path
from genus.text.installed import read

if __name__ == "__main__":
    told = lambda done, total: print(done, flush=True)
    read([("package", Path(sys.argv[1]))], workers=2, progress=told)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_is_left_when_a_reader_is_killed(tmp_path: Path, sent: signal.Signals) -> None:
    (tmp_path / "reads.py").write_text(READS)
    sources = tmp_path / "sources"
    sources.mkdir()
    for number in range(2000):
        (sources / f"module_{number}.py").write_text(f'"""Module {number}."""\n' + f"x = {'[1, 2]' * 200!r}\n" * 60)
    words = [sys.executable, str(tmp_path / "reads.py"), str(sources)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"1\n"
        workers = _children(reader.pid)
        assert len(workers) >= 2
        reader.send_signal(sent)
    until = time.monotonic() + 60
    while any(map(_alive, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(_alive, workers))


def _children(parent: int) -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and _fields(path)[1] == parent]


def _alive(process: int) -> bool:
    return os.path.exists(f"/proc/{process}") and _fields(Path(f"/proc/{process}"))[0] != "Z"


def _fields(path: Path) -> tuple[str, int]:
    """Return state and parent of a process; of one that is gone, Z and 0."""
    try:
        state, parent, *_ = (path / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "Z", 0
    return state, int(parent)

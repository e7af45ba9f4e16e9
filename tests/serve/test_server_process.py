"""The command `genus serve` as a process: how it starts, how it ends, and what it does when a worker dies."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import torch

import forked
from genus.cli import main
from genus.cli import serve as command
from genus.processes import cores
from genus.serve.limits import Limits
from genus.serve.models import Source
from genus.serve.process import Serving, listen
from genus.serve.workers import SPAWN, _work
from genus.train.run import Run
from serving import small_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="asks /proc for worker processes")
PATIENCE = 120
"""Seconds for what takes two on a free core."""
LIMITS = ["--limit", "seconds=60"]
LONG = {"texts": [f"{number} old river runs to the sea " * 16 for number in range(250)]}
"""A request of many forward passes; equal texts would be computed once."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("models") / "lm")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = small_model(tmp_path_factory.mktemp("models") / "damaged")
    (made / "model.safetensors").write_bytes(b"no weights")
    return made


class Server:
    """A process of the command."""

    def __init__(self, log: Path, *arguments: object, before: Callable[[], object] | None = None) -> None:
        self.log = log
        words, (self.printed, out) = ["serve", *map(str, arguments), "--port", "0"], multiprocessing.Pipe(duplex=False)
        self.process = forked.command(words, log, out, before)
        assert self.process.pid is not None
        self.number = self.process.pid
        out.close()
        with open(self.printed.fileno(), closefd=False) as lines:
            self.url = lines.readline().strip().replace("localhost", "127.0.0.1")

    def status(self, path: str, seconds: float = PATIENCE) -> int:
        """The status of an answer; 0: there is none."""
        try:
            return self.ask("GET", path, timeout=seconds).status_code
        except httpx.TransportError:
            return 0

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer on a connection of its own."""
        return httpx.request(method, self.url + path, verify=False, **{"timeout": PATIENCE} | options)

    def workers(self) -> set[int]:
        """The worker processes that are alive."""
        return {number for number in children(self.number) if b"spawn_main" in words_of(number)}

    def ended(self) -> tuple[int, str]:
        """The exit code, and what it said."""
        self.process.join(PATIENCE)
        assert self.process.exitcode is not None
        return self.process.exitcode, self.log.read_text()

    def send(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.number, number)


@contextmanager
def serving(log: Path, *arguments: object, before: Callable[[], object] | None = None) -> Iterator[Server]:
    """Context manager: a process of the command, which has printed its address; in the end nothing is left of it."""
    server = Server(log, *arguments, before=before)
    workers: set[int] = set()
    try:
        yield server
        workers = server.workers()
    finally:
        server.process.kill()
        server.process.join()
        server.printed.close()
        wait(lambda: not any(map(alive, workers)), "workers end with the process that started them")


def words_of(number: int) -> bytes:
    """The command line of a process; empty: it is no more."""
    with suppress(OSError):
        return Path(f"/proc/{number}/cmdline").read_bytes()
    return b""


def alive(number: int) -> bool:
    return bool(words_of(number))


def children(parent: int) -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.add(int(path.parent.name))
    return found


def wait(until: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def ask_in_thread(server: Server) -> tuple[threading.Thread, list[int]]:
    """Send a long request; its status comes into the list."""
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(server.ask("POST", "/api/likelihood", json=LONG).status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, statuses


def errors(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("genus: error: ")]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"])
def test_what_is_asked_is_answered_before_the_end(folder: Path, tmp_path: Path, number: int, code: int) -> None:
    with serving(tmp_path / "log", folder, *LIMITS) as server:
        assert {server.status("/health"), server.status("/v2/health/ready")} == {503}
        assert server.status("/v2/health/live") == 200
        wait(lambda: server.status("/health") == 200, "the server becomes ready")
        assert server.status("/v2/health/ready") == 200
        thread, statuses = ask_in_thread(server)
        wait(lambda: server.ask("GET", "/api/load").json()["requests"] == 1, "a request is worked on")
        begun = time.monotonic()
        server.send(number)
        wait(lambda: server.status("/health") == 0, "new requests are refused")
        assert not statuses
        found, said = server.ended()
        assert time.monotonic() - begun < 62
        thread.join()
    assert statuses == [200]
    assert found == code
    assert "Traceback" not in said
    assert said.endswith("genus: stopped\n") == (number == signal.SIGINT)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_cannot_be_loaded_ends_the_server(
    folder: Path, damaged: Path, tmp_path: Path, workers: int
) -> None:
    with serving(tmp_path / "log", folder, damaged, "--workers", workers) as server:
        code, said = server.ended()
    assert code == 1
    assert len(errors(said)) == 1
    assert str(damaged) in errors(said)[0]
    assert "Traceback" not in said


def test_a_worker_that_dies_is_replaced(folder: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "log", folder, "--workers", 2, *LIMITS) as server:
        wait(lambda: server.status("/health") == 200, "a worker is ready")
        one, other = server.workers()
        assert answers_alone(server, other, one)
        assert answers_alone(server, one, other)
        os.kill(one, signal.SIGKILL)
        assert {server.status("/health") for _ in range(20)} == {200}
        wait(lambda: len(server.workers() - {one}) == 2, "another worker is started")
        (third,) = server.workers() - {one, other}
        assert answers_alone(server, other, third)
        said = server.log.read_text()
        assert f"worker process {one} ended by signal 9; another one is started\n" in said
        asked = [ask_in_thread(server) for _ in range(2)]
        wait(lambda: running(server) == 2, "requests are worked on")
        server.send(signal.SIGTERM)
        wait(lambda: server.status("/health") == 0, "new requests are refused")
        code, said = server.ended()
        for thread, _ in asked:
            thread.join()
    assert [statuses for _, statuses in asked] == [[200]] * 2
    assert code == 0
    assert "Traceback" not in said
    assert not any(map(alive, (one, other, third)))
    assert said.count('"route": "/api/likelihood", "status": 200') == 2, "workers log requests"


def answers_alone(server: Server, stopped: int, asked: int) -> bool:
    """Return whether a worker becomes ready, and answers while the other cannot."""
    os.kill(stopped, signal.SIGSTOP)
    try:
        wait(lambda: server.status("/health", 10) == 200, f"worker {asked} is ready")
        return server.ask("POST", "/embed", json={"inputs": "a"}).status_code == 200
    finally:
        os.kill(stopped, signal.SIGCONT)


def running(server: Server) -> float:
    """Requests that all workers work on, without that which asks."""
    lines = server.ask("GET", "/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("genus_running_requests")) - 1


def test_workers_end_with_their_parent(folder: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "log", folder, "--workers", 2, *LIMITS) as server:
        wait(lambda: server.status("/health") == 200, "a worker is ready")
        family = children(server.number)
        assert len(server.workers()) == 2
        server.process.kill()
        server.process.join()
        wait(lambda: not any(map(alive, family)), "all processes end")
        assert server.status("/health") == 0
        assert "Traceback" not in server.log.read_text(), "a worker that has started since does not miss its parent"


def test_it_ends_while_its_workers_start(folder: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "log", folder, "--workers", 2) as server:
        wait(lambda: len(server.workers()) == 2, "workers are started")
        server.send(signal.SIGINT)
        assert server.ended() == (130, "genus: stopped\n")



def told_to_end(place: str) -> None:
    """Have the process tell itself to end, once it is at a place."""
    module, _, path = place.partition(":")
    kind, name = path.split(".")
    owner = getattr(importlib.import_module(module), kind)
    original = getattr(owner, name)

    def told(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **options)

    setattr(owner, name, told)


PLACES = [
    "genus.serve.process:Serving.application",
    "uvicorn:Config.__init__",
    "uvicorn:Server.run",
    "uvicorn:Server.startup",
    "genus.serve.models:Models.load_all",
]


@pytest.mark.parametrize("place", PLACES)
def test_it_ends_well_wherever_it_is_told_to_while_it_starts(
    folder: Path, tmp_path: Path, place: str
) -> None:
    with serving(tmp_path / "log", folder, before=partial(told_to_end, place)) as server:
        code, said = server.ended()
    assert code == 0
    assert said in ("", "the model's folder has no pooling: vectors are the means of its last hidden states\n")


@pytest.mark.parametrize("pause", [0.0, 1.5])
def test_workers_that_are_told_to_end_while_they_start_say_nothing(folder: Path, tmp_path: Path, pause: float) -> None:
    with serving(tmp_path / "log", folder, "--workers", 2) as server:
        time.sleep(pause)
        server.send(signal.SIGTERM)
        assert server.ended() == (0, "")
        assert server.ended() == (0, "")


def test_a_worker_that_is_ready_after_its_parents_end_ends_as_others(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    serving = Serving((Source("lm", folder),), Limits(), Run(device="cpu", precision="float32"), threads=1)
    told, tell = SPAWN.Pipe(duplex=False)
    with listen("127.0.0.1", 0) as listening:
        worker = SPAWN.Process(target=_work, args=(serving, listening, tell, os.getpid()))
        worker.start()
        told.close()
        tell.close()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/health"
        wait(lambda: httpx.get(url, timeout=PATIENCE).status_code == 200, "the worker is ready")
        worker.terminate()
        worker.join(PATIENCE)
    assert worker.exitcode == 0
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "prometheus_client"])
def test_without_its_packages_it_says_how_to_install_them(tmp_path: Path, missing: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{missing!r}] = None\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    words = [sys.executable, "-m", "genus", "serve", str(tmp_path)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path})
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"genus: error: {command.MISSING}\n")


def test_what_cannot_be_served_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    with listen("127.0.0.1", 0) as used:
        port = used.getsockname()[1]
        cases: list[tuple[list[object], int, str]] = [
            (["nowhere"], 2, "nowhere: there is no such folder"),
            ([folder, folder], 2, "two models are called 'lm'"),
            ([folder, "--port", port], 1, f"--port: {port} is in use"),
            ([folder, "--host", "192.0.2.1"], 1, "--host 192.0.2.1 --port 8000: "),
            ([folder, "--port", 65536], 2, "--port: expected 0 to 65535"),
            ([folder, "--workers", 0], 2, "--workers: expected at least 1"),
            ([folder, "--limit", "slots=0"], 2, "slots"),
        ]
        for words, code, says in cases:
            assert main(["serve", *[str(word) for word in words]]) == code
            said = capsys.readouterr()
            assert said.out == ""
            assert len(said.err.splitlines()) == 1
            assert says in said.err
    assert main(["serve", "empty", "--port", "0"]) == 1
    assert capsys.readouterr().err == "genus: error: empty/config.json: there is no such file\n"


def test_the_address_takes_connections_once_it_is_told() -> None:
    with listen("127.0.0.1", 0) as listening:
        socket.create_connection(listening.getsockname(), timeout=5).close()


def test_workers_share_the_cores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Serving] = []
    monkeypatch.setattr("genus.serve.process.serve", lambda serving, host, port: given.append(serving))
    for words in (["--workers", "1"], ["--workers", "2"], ["--workers", "1000"], ["--run", "threads=3"]):
        assert main(["serve", str(folder), *words]) == 0
    assert [one.threads for one in given] == [cores(), max(1, cores() // 2), 1, 3]


def test_a_worker_computes_with_its_threads(folder: Path) -> None:
    before, found = torch.get_num_threads(), list[int]()
    try:
        Serving((Source("lm", folder),), Limits(), Run(device="cpu"), threads=3).application()
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
    finally:
        torch.set_num_threads(before)
    assert found == [3]

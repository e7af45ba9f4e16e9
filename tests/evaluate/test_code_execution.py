"""Programs that misbehave: each is a failure, and nothing remains of it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evaluate.problems import PROBLEMS
from genus.errors import GenusError
from genus.evaluate.code import execution
from genus.evaluate.code.execution import Limits, isolated, run, run_all
from genus.evaluate.code.problems import read_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT = Limits(seconds=1.0, memory=256 << 20, processes=6)


@pytest.fixture(params=["namespaces", "without namespaces"])
def apart(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether programs run in namespaces: here, if the kernel allows them, and where it would not."""
    if request.param == "namespaces" and not isolated():
        pytest.skip("this kernel allows no namespaces")
    monkeypatch.setattr(execution, "isolated", lambda: request.param == "namespaces")
    return bool(request.param == "namespaces")


@pytest.fixture(autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the folders of a test's programs are made: the tests of other processes have theirs elsewhere."""
    tmp_path_factory.getbasetemp()  # made where it always is
    with tempfile.TemporaryDirectory(prefix="genus-tests-") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def processes(place: Path) -> set[str]:
    """Return the processes, of all users, whose home is a folder of a test's programs."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"HOME={place}/".encode() in path.read_bytes():
                found.add(path.parent.name)
        except OSError:
            continue
    return found


def test_solutions_pass_and_others_do_not(apart: bool) -> None:
    good = [problem.program(problem.canonical_solution) for problem in PROBLEMS]
    bad = [problem.program(body) for problem in PROBLEMS for body in ("    return None\n", "    pass\n", "", "  )")]
    assert [verdict.result for verdict in run_all(good)] == ["passed"] * len(good)
    assert not any(verdict.passed for verdict in run_all(bad))


BAD = {
    "an endless loop": "    while True: pass",
    "sleep": "    import time; time.sleep(100)",
    "a fork bomb": "    import os\n    while True:\n        try: os.fork()\n        except OSError: pass",
    "threads": "    import threading, time\n    while True: threading.Thread(target=time.sleep, args=(9,)).start()",
    "memory": "    all = []\n    while True: all.append(bytearray(1 << 24))",
    "a file elsewhere": "    open('{elsewhere}', 'w').write('x')",
    "a huge file": "    with open('huge', 'wb') as file:\n        while True: file.write(bytes(1 << 20))",
    "many files": "    import itertools\n    for n in itertools.count(): open(str(n), 'wb').write(bytes(1 << 23))",
    "a socket": "    import socket; socket.create_connection(('127.0.0.1', {port}), 1); return 2 * x",
    "a local socket": "    import socket; socket.socket(socket.AF_UNIX).connect('/run/x'); return 2 * x",
    "its parent": "    import os, signal; os.kill(os.getppid(), signal.SIGKILL); return 2 * x",
    "the tests' process": "    import os, signal; os.kill({pid}, signal.SIGKILL); return 2 * x",
    "all processes": "    import os, signal; os.kill(-1, signal.SIGKILL); return 2 * x",
    "itself": "    import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "a crash": "    import ctypes; ctypes.string_at(0)",
    "endless output": "    while True: print('passed' * 1000)",
    "endless errors": "    import sys\n    while True: sys.stderr.write('x' * 1000)",
    "an early exit": "    import os; os._exit(0)",
    "sys.exit": "    import sys; print('passed'); sys.exit()",
    "SystemExit": "    raise SystemExit(0)",
    "KeyboardInterrupt": "    raise KeyboardInterrupt",
    "an exit as it was": "    exit = quit = print; import builtins; builtins.exit = print; raise SystemExit",
    "an exit while it ends": "    import atexit, os; atexit.register(os._exit, 0); raise SystemExit",
    "other judges": "    import os; os._exit = os.write = os.read = print\n    os.close(1); print('passed')",
    "a report of its own": "    import os\n    for n in range(3, 64):\n        try: os.write(n, b'passed\\n')\n"
    "        except OSError: pass",
    "a name that is no name": "    class E(BaseException, metaclass=type('M', (type,), {{'__name__': 3}})): pass\n"
    "    raise E",
    "an endless recursion": "    return double(x)",
    "children that outlive it": "    import os, time\n    if not os.fork():\n"
    "        os.setsid()\n        if os.fork(): os._exit(0)\n        time.sleep(100)",
    "children with pipes": "    import subprocess, sys\n"
    "    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'], start_new_session=True)\n    exit()",
}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="some limits are Linux's")
@pytest.mark.parametrize("name", BAD)
def test_a_bad_program_is_contained(name: str, apart: bool, tmp_path: Path, place: Path) -> None:
    if not apart and name == "many files":
        pytest.skip("a folder on a disk has no limit for all files")
    if not apart and name == "a file elsewhere" and os.getuid():
        pytest.skip("without namespaces, the files of this user are open")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    body = BAD[name].format(elsewhere=elsewhere, pid=os.getpid(), port=9) + "\n"
    verdict = run(PROBLEMS[0].program(body), SHORT)
    assert not verdict.passed, verdict
    assert verdict.seconds < 4
    assert not processes(place)
    assert not [*place.iterdir()]
    assert elsewhere.read_text() == ""


def test_what_passes_leaves_nothing_either(apart: bool, place: Path) -> None:
    body = BAD["children that outlive it"] + "\n    return 2 * x\n"
    assert run(PROBLEMS[0].program(body)).passed
    assert not processes(place)


def test_a_program_ends_with_whoever_started_it(apart: bool, place: Path) -> None:
    starter = f"""
from genus.evaluate.code import execution
execution.isolated = lambda: {apart}
print(flush=True)
execution.run("import time; time.sleep(60)", execution.Limits(seconds=60))
"""
    environment = os.environ | {"TMPDIR": str(place)}
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        until(lambda: bool(processes(place)))
        process.kill()
    until(lambda: not processes(place))


def until(condition) -> None:  # type: ignore[no-untyped-def]
    """Wait for a condition, for 10 seconds."""
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError


def test_verdicts_are_in_the_order_of_the_programs() -> None:
    programs = ["import time; time.sleep(0.3)", "1 / 0", "", "raise MemoryError"]
    before = threading.active_count()
    found = list(run_all(programs, SHORT, workers=4))
    assert [verdict.detail for verdict in found] == ["", "ZeroDivisionError", "", "MemoryError"]
    assert [verdict.passed for verdict in found] == [True, False, True, False]
    assert threading.active_count() == before


def test_a_machine_that_cannot_run_programs_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "SCRIPT", "/nowhere/program.py")
    monkeypatch.setattr(execution, "_jailed", lambda order, timeout: {"result": "impossible", "detail": "no fork"})
    with pytest.raises(GenusError, match="cannot be run on this machine: no fork"):
        isolated.__wrapped__()


@pytest.mark.slow
@pytest.mark.shared
def test_all_solutions_of_humaneval_pass_and_broken_ones_do_not(shared: Path) -> None:
    problems, _ = read_problems(shared / "data" / "humaneval" / "test.jsonl.gz")
    assert len(problems) == 164
    good = [problem.program(problem.canonical_solution) for problem in problems]
    assert {verdict.result for verdict in run_all(good, Limits(seconds=20))} == {"passed"}
    for body in ("    return None\n", "    pass\n", "    return 0\n"):
        verdicts = run_all([problem.program(body) for problem in problems], Limits(seconds=20))
        assert not [problem.task_id for problem, one in zip(problems, verdicts, strict=True) if one.passed]

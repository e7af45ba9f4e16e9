"""Groups of cores: apart, all of the allowed ones, within a node, from what Linux tells of nodes and cores."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from genus.cli import main
from genus.serve.core_groups import core_groups, pin, told
from serving import small_model

if TYPE_CHECKING:
    from pathlib import Path

    from genus.serve.process import Serving


def system(where: Path, nodes: dict[int, str], siblings: dict[int, str] | None = None) -> Path:
    """Write what the kernel tells of nodes, and of the threads of physical cores."""
    for number, cores in nodes.items():
        path = where / "node" / f"node{number}" / "cpulist"
        path.parent.mkdir(parents=True)
        path.write_text(f"{cores}\n")
    for core, others in (siblings or {}).items():
        path = where / "cpu" / f"cpu{core}" / "topology" / "thread_siblings_list"
        path.parent.mkdir(parents=True)
        path.write_text(f"{others}\n")
    return where


TWO = {0: "0-3,8-11", 1: "4-7,12-15"}
"""Two nodes of four physical cores, whose second threads have the higher numbers, as on most servers."""
THREADS = {core: f"{core % 8},{core % 8 + 8}" for core in range(16)}


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        (2, "0-3,8-11 | 4-7,12-15"),
        (3, "0-1,8-9 | 2-3,10-11 | 4-7,12-15"),
        (4, "0-1,8-9 | 2-3,10-11 | 4-5,12-13 | 6-7,14-15"),
        (16, " | ".join(map(str, (0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15)))),
    ],
)
def test_groups_lie_within_nodes_and_keep_threads_of_a_core_together(
    tmp_path: Path, workers: int, expected: str
) -> None:
    assert told(core_groups(workers, system(tmp_path, TWO, THREADS), range(16))) == expected


def test_fewer_workers_than_nodes_have_whole_nodes(tmp_path: Path) -> None:
    four = system(tmp_path, {number: f"{4 * number}-{4 * number + 3}" for number in range(4)})
    assert told(core_groups(2, four, range(16))) == "0-7 | 8-15"
    assert told(core_groups(3, four, range(16))) == "0-7 | 8-11 | 12-15"


def test_only_allowed_cores_are_shared_out(tmp_path: Path) -> None:
    where = system(tmp_path, {**TWO, 2: ""}, THREADS)
    assert told(core_groups(2, where, {1, 2, 5, 6, 7})) == "1-2 | 5-7"
    assert told(core_groups(2, where, {1, 2, 3, 9})) == "1,9 | 2-3"
    assert core_groups(1, where, range(16)) == core_groups(3, where, {1, 2}) == ()


@pytest.mark.parametrize("nodes", [{}, {0: "a-b"}, {0: "0-1"}])
def test_where_the_kernel_tells_nothing_or_not_all_no_core_is_lost(tmp_path: Path, nodes: dict[int, str]) -> None:
    for workers in range(2, 7):
        groups = core_groups(workers, system(tmp_path / str(workers), nodes), range(6))
        assert len(groups) == workers
        assert sorted(core for group in groups for core in group) == [*range(6)]


def test_where_the_system_pins_nothing_there_are_no_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    assert core_groups(2) == ()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="of Linux")
def test_threads_that_are_started_later_stay_on_the_cores() -> None:
    before, seen = os.sched_getaffinity(0), list[set[int]]()

    def work() -> None:
        pin((min(before),))
        pin((1 << 20,))  # a core that is not there changes nothing
        thread = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
        thread.start()
        thread.join()

    starter = threading.Thread(target=work)
    starter.start()
    starter.join()
    assert seen == [{min(before)}]
    assert os.sched_getaffinity(0) == before


def test_each_worker_gets_its_group_and_a_thread_for_each_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Serving] = []
    groups = ((0, 1, 8, 9), (2, 3))
    monkeypatch.setattr("genus.serve.core_groups.core_groups", lambda workers: groups if workers == 2 else ())
    monkeypatch.setattr("genus.serve.workers.supervise", lambda serving, listening: given.append(serving))
    monkeypatch.setattr("genus.serve.process.answer", lambda serving, listening: given.append(serving))
    folder = str(small_model(tmp_path / "lm"))
    for words in ([], ["--run", "threads=3"], ["--run", "device=cpu"]):
        assert main(["serve", folder, "--workers", "2", "--port", "0", *words]) == 0
        _, *line = capsys.readouterr().out.splitlines()
        assert line == ([] if "threads=3" in words else ["2 workers on cores 0-1,8-9 | 2-3"])
    pinned, placed, _ = given
    assert [(one.threads, one.group) for one in map(pinned.for_worker, (0, 1))] == [(4, groups[0]), (2, groups[1])]
    assert [(one.threads, one.group) for one in map(placed.for_worker, (0, 1))] == [(3, ())] * 2
    assert main(["serve", folder, "--port", "0"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1

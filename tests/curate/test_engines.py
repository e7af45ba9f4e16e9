"""Engines: a cluster of two machines, and any number of killed workers, change no byte."""

from __future__ import annotations

import os
import random
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from curated import ALL, WORDS, clean, corpus, files
from genus.curate import Curation
from genus.curate.contamination import Contamination
from genus.curate.engines.local import LocalProcesses
from genus.curate.engines.ray import Ray
from genus.curate.exact_substrings import ExactSubstrings
from genus.errors import GenusError
from genus.text import read as text_read
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.tokens.store import counts, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STEPS = Curation(steps=(*ALL.steps, ExactSubstrings(length=60)))
KILLS = 20


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(text_read, "BLOCK_BYTES", 1 << 13)
    return corpus(tmp_path / "text", 400)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two nodes of one processor, each with a memory of its own."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    made.add_node(num_cpus=1, object_store_memory=80 << 20)
    yield made.address
    made.shutdown()  # type: ignore[no-untyped-call]


@pytest.mark.filterwarnings("ignore")  # of a library that is not ours
def test_a_cluster_of_two_nodes_makes_the_same_bytes(tmp_path: Path, texts: list[Path], cluster: str) -> None:
    report = clean(STEPS, texts, tmp_path / "local")
    assert clean(STEPS, texts, tmp_path / "ray", engine=Ray(address=cluster)) == report
    assert files(tmp_path / "ray") == files(tmp_path / "local")
    table = Curation(steps=(Contamination(tables=(str(texts[1]),)),))
    texts[1].write_text('{"q": "too short"}\n')
    with pytest.raises(GenusError, match="no text in it has 13 words"):
        clean(table, texts[:1], tmp_path / "table", engine=Ray(address=cluster))


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_tokenizes_the_same_store(tmp_path: Path, texts: list[Path], cluster: str) -> None:
    words = WordPiece(vocab_size=200).train([" ".join(WORDS)] * 3)
    prepare([*texts], words, tmp_path / "local", workers=1)
    engine = Ray(address=cluster)
    with engine.running():
        prepare([*texts], words, tmp_path / "ray", engine=engine.in_order)
    assert files(tmp_path / "ray") == files(tmp_path / "local")
    assert counts(tmp_path / "ray").blocks > 10


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_killed_workers_of_a_cluster_change_nothing(tmp_path: Path, texts: list[Path], cluster: str) -> None:
    """Twenty of them, by SIGKILL, wherever they are: the cluster makes their shards again by itself."""
    clean(STEPS, texts, tmp_path / "whole")
    with Killing("ray::_call", pause=1.5) as killing:
        while killing.kills < KILLS:
            out = tmp_path / f"out-{killing.kills}"
            clean(STEPS, texts, out, engine=Ray(address=cluster))
            assert files(out) == files(tmp_path / "whole")


@pytest.mark.slow
def test_killed_workers_of_this_machine_change_nothing(tmp_path: Path, texts: list[Path]) -> None:
    """Twenty of them: the run ends with one line, and goes on when it is called again."""
    clean(STEPS, texts, tmp_path / "whole")
    stopped = 0
    with Killing("multiprocessing.spawn", pause=1.0) as killing:
        while killing.kills < KILLS:
            out = tmp_path / f"out-{killing.kills}"
            while True:
                try:
                    clean(STEPS, texts, out, engine=LocalProcesses(workers=2))
                    break
                except GenusError as error:
                    assert "a worker was killed" in str(error)  # noqa: PT017
                    stopped += 1
            assert files(out) == files(tmp_path / "whole")
    assert stopped > KILLS // 4


class Killing:
    """Kills processes below this one whose command line has a word: `KILLS` of them, at random moments.

    Between two kills pass some `pause` seconds, in which a new worker can begin.
    """

    def __init__(self, word: str, pause: float) -> None:
        self.word, self.pause, self.kills, self.ended = word, pause, 0, threading.Event()
        self.thread = threading.Thread(target=self._kill)

    def __enter__(self) -> Killing:
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.ended.set()
        self.thread.join()

    def _kill(self) -> None:
        psutil = pytest.importorskip("psutil")
        draw = random.Random(0)
        while self.kills < KILLS and not self.ended.wait(draw.uniform(0.2, 1.8) * self.pause):
            below = list[Any]()
            while not below and not self.ended.wait(0.01):
                below = [one for one in psutil.Process().children(recursive=True) if self._works(one)]
            if below:
                os.kill(draw.choice(below).pid, signal.SIGKILL)
                self.kills += 1

    def _works(self, process: Any) -> bool:
        try:
            told = " ".join(process.cmdline())
        except Exception:  # it has ended
            return False
        return self.word in told and "raylet" not in told


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_is_not_there(tmp_path: Path, texts: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(ConnectionError("no answer\nfrom it")))
    with pytest.raises(GenusError, match=r"10.0.0.1:6379: Ray cannot be reached \(no answer\)"):
        clean(STEPS, texts, tmp_path / "out", engine=Ray(address="10.0.0.1:6379"))

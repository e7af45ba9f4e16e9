"""The quickstart, on few packages and for seconds: what is shown is there, and nothing is done twice."""

from __future__ import annotations

import json
import sysconfig
from functools import partial
from pathlib import Path

import pytest

from genus.cli import main, quickstart
from genus.text import installed


@pytest.fixture
def few_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take two packages of the standard library for all there are."""
    root = Path(sysconfig.get_paths()["stdlib"])
    roots = [(name, root / name) for name in ("email", "asyncio")]
    read = installed.read
    monkeypatch.setattr(installed, "read", lambda workers, progress: read(roots, 1, progress))
    monkeypatch.setattr(installed, "make", partial(installed.make, train=20, validation=10))
    monkeypatch.setattr(quickstart, "RECIPE", "bert/tiny")
    monkeypatch.setattr(quickstart, "SEEDS", (0, 1))
    monkeypatch.setattr(quickstart, "FINE_TUNING", ("finetuning.epochs=1", "finetuning.max_length=32"))


@pytest.mark.usefixtures("few_packages")
def test_it_goes_all_the_way_and_does_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["quickstart", "--out", str(tmp_path / "out"), "--seconds", "2"]
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert all(f"{step}/5 " in captured.err for step in range(1, 6))
    assert found["text"]["labels"] == ["asyncio", "email"]
    assert found["accuracy"]["pretrained"]["runs"] == found["accuracy"]["random"]["runs"] == 2
    assert all(len(words) == 5 for words in found["completions"].values())
    assert all((Path(model) / "config.json").exists() for model in found["models"].values())
    assert main(command) == 0
    printed = capsys.readouterr().out
    for start in ("pretrained", "random"):
        assert f"{found['accuracy'][start]['mean']:.4f} [" in printed
    assert printed.count("\n  genus ") == 3
    assert str(tmp_path / "out" / "bert-mini") in printed

"""The quickstart, on few packages and few tokens: what is shown is there, and nothing is done twice."""

from __future__ import annotations

import json
import sysconfig
from functools import partial
from pathlib import Path

import pytest

from genus import catalog, load_model
from genus.cli import main, quickstart
from genus.text import installed

OVERLAY = 'base = "genus/tiny"\n[finetuning]\nepochs = 1\nmax_length = 32\n'
TOKENS, STEP = 20_000, 16 * 64
"""Of a run, and of one update at most."""


@pytest.fixture
def few_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take two packages of the standard library for all there are, and a smaller row."""
    root = Path(sysconfig.get_paths()["stdlib"])
    roots = [(name, root / name) for name in ("email", "asyncio")]
    read = installed.read
    monkeypatch.setattr(installed, "read", lambda workers, progress: read(roots, 1, progress))
    monkeypatch.setattr(installed, "make", partial(installed.make, train=40, validation=20))
    (tmp_path / "tiny.toml").write_text(OVERLAY)
    monkeypatch.setattr(quickstart, "RECIPE", str(tmp_path / "tiny.toml"))
    monkeypatch.setattr(quickstart, "SEEDS", (0, 1))


@pytest.mark.usefixtures("few_packages")
def test_it_goes_all_the_way_and_does_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["quickstart", "--out", str(tmp_path / "out"), "--tokens", str(TOKENS)]
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert all(f"{step}/5 " in captured.err for step in range(1, 6))
    assert found["text"]["labels"] == ["as written", "swapped"]
    assert found["accuracy"]["pretrained"]["runs"] == found["accuracy"]["random"]["runs"] == 2
    assert list(found["completions"]) == list(quickstart.SENTENCES)
    assert all(len(words) == 5 for words in found["completions"].values())
    assert all(load_model(Path(model)).learner.heads for model in found["models"].values())
    (state,) = (tmp_path / "out" / "genus-mini" / "checkpoints").glob("*/state.json")
    assert TOKENS <= json.loads(state.read_text())["progress"]["tokens"] < TOKENS + STEP
    assert main(command) == 0
    printed = capsys.readouterr().out
    for start in ("pretrained", "random"):
        assert f"{found['accuracy'][start]['mean']:.4f} [" in printed
    assert f"{found['held_out']['masked_lm/correct']:.1%} of the masked tokens" in printed
    assert printed.count("which genus reads (transformers has no class of it)") == 2
    assert printed.count("\n  genus ") == 3
    assert str(tmp_path / "out" / "genus-mini") in printed


def test_it_ends_by_tokens_so_that_a_slow_machine_learns_the_same() -> None:
    """Its row, whose budget is the command's own."""
    budget = catalog.load(quickstart.RECIPE).budget
    assert (budget.unit, budget.amount) == ("tokens", quickstart.TOKENS)

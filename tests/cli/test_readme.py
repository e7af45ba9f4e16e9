"""Every command of the README runs, in its order, made small; `quickstart.sh` is what the quickstart's test runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from small_run import SMALL, write_text

from genus.cli import main

if TYPE_CHECKING:
    import pytest

    Captured = pytest.CaptureFixture[str]

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
FINE_TUNING = [
    "--seeds",
    "1",
    "--set",
    "finetuning.epochs=1",
    "--set",
    "finetuning.max_length=32",
    "--run",
    "device=cpu",
]
EXTRA = {"pretrain": SMALL, "finetune": FINE_TUNING, "tokenizer": ["--set", "tokens.vocab_size=300"]}
"""What makes a command small."""
ENDLESS = {"serve"}
"""Commands that do not end by themselves; see `serve/test_server_process.py`."""


def test_every_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path)
    lines = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines]
    assert [command[0] for command in commands if command[0] != "genus"] == ["./quickstart.sh"]
    assert len(commands) > 12
    for command, *arguments in commands:
        if command == "genus" and arguments[0] not in ENDLESS:
            assert main([*arguments, *EXTRA.get(arguments[0], [])]) == 0, (arguments, capsys.readouterr().err)


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    settings = [SMALL[i + 1] for i, word in enumerate(SMALL) if word == "--set"]
    assert '["budget.amount=100"]' in code
    exec(code.replace('["budget.amount=100"]', repr(settings)), {})
    assert "Completion(token=" in capsys.readouterr().out

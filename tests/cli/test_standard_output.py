"""Standard output may be full, closed or a pipe, names may be no UTF-8, and `torchrun` may stand before the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from torch.distributed.run import get_args_parser

from genus.cli import app, main


def run(*arguments: str, shell: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell that does something with its output."""
    command = f'"$0" -m genus "$@" {shell}'
    return subprocess.run(["bash", "-c", command, sys.executable, *arguments], capture_output=True, text=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("command", [["list"], ["show", "bert", "--json"]], ids=lambda command: command[0])
def test_a_full_output_is_one_line(command: list[str]) -> None:
    done = run(*command, shell=">/dev/full")
    assert (done.returncode, done.stderr) == (1, "genus: error: standard output: No space left on device\n")


def test_a_closed_output_is_quiet() -> None:
    assert run("list", shell=">&-").returncode == 0
    assert run("nonsense", shell="2>&-").returncode == 2
    done = run("list", shell="| head -n 1; exit ${PIPESTATUS[0]}")
    assert done.returncode in (0, 1)
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [["show"], ["fill", "model"], ["generate", "model"], ["generate", "model", "a", "--stop"], ["attribute", "model"],
     ["attribute", "model", "a", "--code"], ["evaluate", "model"], ["pretrain", "bert"]],
)  # fmt: skip
def test_an_argument_in_other_bytes_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, os.fsdecode(b"caf\xe9 r\xff")]) == 2
    told = f"argument {len(arguments) + 1}, 'caf\\udce9 r\\udcff', is not UTF-8; give text in UTF-8, and rename a file"
    assert capsys.readouterr().err == f"genus: error: {told} of such a name\n"


def options() -> list[tuple[str, list[str]]]:
    """Return every option of the commands that train, as (command, its names)."""
    group = typer.main.get_command(app)
    return [
        (name, [option for option in parameter.opts if option.startswith("--")])
        for name in ("pretrain", "finetune")
        for parameter in group.commands[name].params  # type: ignore[attr-defined]
        if parameter.opts[0].startswith("--")
    ]


@pytest.mark.parametrize(("command", "names"), options(), ids=str)
def test_every_option_has_a_name_that_torchrun_lets_pass(command: str, names: list[str]) -> None:
    def passes(name: str) -> bool:
        try:
            found = get_args_parser().parse_args(["--nproc-per-node", "2", "-m", "genus", command, name, "x"])
        except SystemExit:
            return False
        return bool(found.training_script_args == [command, name, "x"])

    assert any(map(passes, names))

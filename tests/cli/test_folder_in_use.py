"""A folder that another process writes into is refused in one line, and kept; a dead process's lock is none."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from small_run import SMALL
from test_errors import refused

import forked
from evaluate.problems import PROBLEMS, write_problems
from generate.writers import TEXTS
from genus.cli import main
from genus.run_folder import LOCK
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from written import write_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from small_run import Place

    Captured = pytest.CaptureFixture[str]

COMMANDS = ["pretrain", "finetune", "export", "tokenizer", "prepare", "evaluate-code"]


@pytest.fixture(scope="module")
def coder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a causal model that is as large as needed."""
    tokens = ByteBPE(vocab_size=300, special_tokens=GPT2)
    return write_model(tmp_path_factory.mktemp("coder"), "gpt2/tiny", tokens, TEXTS)


def arguments(command: str, place: Place, coder: Path, tmp_path: Path) -> list[str]:
    """Return the arguments of a command that writes into `tmp_path / "out"`."""
    text, out = place.folder / "text.jsonl", ["--out", tmp_path / "out"]
    epochs = ["--set", "finetuning.epochs=1"]
    found: dict[str, list[object]] = {
        "pretrain": ["pretrain", "bert/mini", text, *out, *SMALL],
        "finetune": ["finetune", place.run, place.folder / "task", *out, "--seeds", 1, "--run", "workers=0", *epochs],
        "export": ["export", place.run, *out],
        "tokenizer": ["tokenizer", "train", "bert/mini", text, *out, "--set", "tokens.vocab_size=300"],
        "prepare": ["prepare", text, *out, "--tokenizer", place.run / "tokenizer", "--workers", 1],
    }
    if command == "evaluate-code":
        problems = write_problems(tmp_path / "problems.jsonl", PROBLEMS)
        return ["evaluate-code", str(coder), str(problems), *map(str, out), "--samples", "1", "--max-tokens", "2"]
    return [*map(str, found[command])]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of the folder `out`."""
    code = "import sys, time; from pathlib import Path; from genus.run_folder import RunFolder\n"
    code += "with RunFolder(Path(sys.argv[1])).lock(): print('locked', flush=True); time.sleep(600)"
    given = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(given, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_second_is_refused_until_the_first_is_dead(
    command: str, holder: subprocess.Popen[str], capsys: Captured, place: Place, coder: Path, tmp_path: Path
) -> None:
    given, out = arguments(command, place, coder, tmp_path), tmp_path / "out"
    before = content(out)
    assert [*before] == [LOCK]
    told = f"{out}: is in use by process {holder.pid} on {socket.gethostname()}; wait until it ends"
    assert told in refused(capsys, 2, *given)
    assert content(out) == before
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (out / LOCK).exists()
    assert main(given) == 0, capsys.readouterr().err
    assert not (out / LOCK).exists()
    assert len(content(out)) > 1


@pytest.mark.parametrize("command", ["finetune", "export", "tokenizer", "evaluate-code"])
def test_what_the_first_has_written_is_kept(
    command: str, capsys: Captured, place: Place, coder: Path, tmp_path: Path
) -> None:
    """A finished folder, into which the same command would write again."""
    given, out = arguments(command, place, coder, tmp_path), tmp_path / "out"
    assert main(given) == 0
    finished = content(out)
    (out / LOCK).write_text("process 1 on elsewhere\n")  # of a process that was killed on another machine, long ago
    code = "import fcntl, os, sys, time\nhandle = os.open(sys.argv[1], os.O_RDWR)\n"
    code += "fcntl.lockf(handle, fcntl.LOCK_EX); print('locked', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code, str(out / LOCK)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        assert "is in use by process 1 on elsewhere; wait until it ends" in refused(capsys, 2, *given)
        assert {name: data for name, data in content(out).items() if name != LOCK} == finished
        process.kill()
    assert main(given) == 0
    assert content(out).keys() == finished.keys()


@pytest.mark.parametrize("command", ["export", "finetune", "tokenizer", "evaluate-code"])
def test_two_at_once(command: str, place: Place, coder: Path, tmp_path: Path) -> None:
    """One or both go through, who does not says so in one line, and what is left is that of one alone."""
    given, out = arguments(command, place, coder, tmp_path), tmp_path / "out"
    assert main(given) == 0
    alone = content(out)
    shutil.rmtree(out)
    said = [tmp_path / f"said-{number}" for number in range(2)]
    processes = [forked.command(given, path) for path in said]
    for process in processes:
        process.join(forked.PATIENCE)
    errors = [path.read_text() for path in said]
    codes = sorted(process.exitcode for process in processes)  # type: ignore[type-var]
    assert codes in ([0, 0], [0, 2]), errors
    for process, error in zip(processes, errors, strict=True):
        assert "Traceback" not in error
        if process.exitcode:
            assert f"genus: error: {out}: is in use by " in error.splitlines()[-1]
    assert content(out).keys() == alone.keys()

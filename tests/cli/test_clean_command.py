"""`genus clean`: its report, a dry run, settings and errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

import curated
from genus.cli import main
from genus.text.sources import CURATION

if TYPE_CHECKING:
    from pathlib import Path

STEPS = """
kind = "Curation"
[[steps]]
kind = "FewSentences"
least = 2
[[steps]]
kind = "ExactDuplicates"
[[steps]]
kind = "Contamination"
tables = ["TABLE"]
"""


@pytest.fixture
def texts(tmp_path: Path) -> list[str]:
    return [str(path) for path in curated.corpus(tmp_path / "text", 100)]


def run(*arguments: str) -> int:
    return main(["clean", *arguments, "--workers", "1"])


def test_a_short_report(tmp_path: Path, texts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    chosen = [*texts, "--preset", "c4", "--out", str(out), "--set", "steps.0.min_words=2", "--keep", "secret"]
    assert run(*chosen) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 11
    assert lines[1].split()[:2] == ["read", "100"]
    assert [line for line in lines if "C4Lines" in line and "end_punctuation" in line]
    report = json.loads((out / CURATION).read_text())
    assert report["made_from"]["curation"]["steps"][0]["min_words"] == 2
    assert curated.read(out)[0]["secret"] == 0
    assert (
        run(*texts, "--preset", "c4", "--out", str(out), "--set", "steps.0.min_words=2", "--keep", "secret", "--json")
        == 0
    )
    assert json.loads(capsys.readouterr().out) == report


def test_a_dry_run_writes_nothing_and_shows_examples(
    tmp_path: Path, texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert run(*texts, "--preset", "c4", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "0 C4Lines, end_punctuation: 10 lines" in out
    assert f"{texts[0]}, 6: Menu and links" in out
    assert sorted(tmp_path.rglob("*")) == before


def test_steps_of_a_file(tmp_path: Path, texts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(curated.lines(tmp_path / "text" / "two.jsonl")[3])
    table = curated.write(tmp_path / "task.jsonl", [{"question": document["text"]}])
    (tmp_path / "steps.toml").write_text(STEPS.replace("TABLE", str(table)))
    assert run(*texts, "--preset", str(tmp_path / "steps.toml"), "--out", str(tmp_path / "out")) == 0
    out = capsys.readouterr().out
    assert f"{table}: 1 row in 1 document" in out
    (tmp_path / "steps.toml").write_text("kind = 'Curation'\nsteps = [{kind = 'ExactDuplicate'}]")
    assert run(*texts, "--preset", str(tmp_path / "steps.toml"), "--out", str(tmp_path / "out")) == 2
    assert "Did you mean 'ExactDuplicates'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "c4"], "--out: name a folder"),
        (["--preset", "c5", "--out", "out"], "there is no curation 'c5'"),
        (["--preset", "nothing.toml", "--out", "out"], "nothing.toml: cannot be read"),
        (["--preset", "c4", "--out", "out", "--set", "steps.0.words=3"], "C4Lines has no choice 'words'"),
        (["--preset", "c4", "--out", "out", "--compression", "zip"], "--compression: 'zip'"),
        (["--preset", "c4", "--out", "out", "--workers", "0"], "--workers: expected at least 1, got 0"),
        (["--out", "out", "--engine", "spark"], "--engine: 'spark' is neither local nor ray"),
        (["--out", "out", "--address", "auto"], "--address: is of a Ray cluster; add --engine ray"),
    ],
)
def test_errors_are_one_line(
    texts: list[str], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["clean", *texts, *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_nothing_left_is_said(tmp_path: Path, texts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--preset", "code", "--set", "steps.0.max_bytes=3", "--out", str(tmp_path / "out")]
    assert run(*texts, *arguments) == 0
    assert "nothing is left" in capsys.readouterr().err


@pytest.mark.slow
def test_a_process_killed_by_the_system_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """With two workers, by SIGKILL, wherever it is."""
    texts = [str(path) for path in curated.corpus(tmp_path / "text", 9_000)]
    chosen = ["--set", "steps=[{kind='C4Lines'},{kind='ExactDuplicates'},{kind='NearDuplicates',values=16}]"]
    assert run(*texts, *chosen, "--out", str(tmp_path / "whole")) == 0
    command = [
        sys.executable,
        "-m",
        "genus",
        "clean",
        *texts,
        *chosen,
        "--out",
        str(tmp_path / "out"),
        "--workers",
        "2",
    ]
    kills = 0
    for seconds in (3.0, 4.0, 5.0):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            time.sleep(seconds)
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
    assert kills
    time.sleep(2)  # workers whose parent is gone end themselves
    assert run(*texts, *chosen, "--out", str(tmp_path / "out")) == 0
    assert curated.files(tmp_path / "out") == curated.files(tmp_path / "whole")

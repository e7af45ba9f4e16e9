"""The command `evaluate-code`: programs are generated once, run only when asked for, and counted."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from evaluate.problems import PROBLEMS, write_problems
from generate.writers import TEXTS
from genus.cli import main
from genus.evaluate.code.samples import read_samples, write_samples
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from written import write_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokens, positions = ByteBPE(vocab_size=300, special_tokens=GPT2), "model.embedding.position.length=256"
    return write_model(tmp_path_factory.mktemp("coder"), "gpt2/tiny", tokens, TEXTS, positions)


def call(folder: Path, tmp_path: Path, *options: str) -> int:
    problems = write_problems(tmp_path / "problems.jsonl", PROBLEMS)
    given = ["evaluate-code", str(folder), str(problems), "--out", str(tmp_path / "out"), "--max-tokens", "8"]
    return main([*given, "--temperature", "1", *options])


def test_programs_are_run_only_when_asked_for(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(folder, tmp_path, "--samples", "2") == 0
    told = capsys.readouterr()
    assert "6 programs are in" in told.err
    assert "add --run-code" in told.err
    path = tmp_path / "out" / "samples.jsonl"
    first = read_samples(path)
    assert [(one.task_id, one.sample) for one in first] == [(one.task_id, n) for one in PROBLEMS for n in range(2)]
    assert all(one.result is None and one.mean_log_probability < 0 for one in first)

    right = {problem.task_id: problem.canonical_solution for problem in PROBLEMS}
    write_samples(path, [type(one)(one.task_id, one.sample, right[one.task_id] if one.sample else "", -1.0, "stop")
                         for one in first])  # fmt: skip
    assert call(folder, tmp_path, "--samples", "2", "--run-code", "--json") == 0
    told = capsys.readouterr()
    assert len([line for line in told.err.splitlines() if line.startswith("warning: programs that the model")]) == 1
    found = json.loads(told.out)
    assert found == json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["passed"] == {problem.task_id: 1 for problem in PROBLEMS}
    assert found["metrics"]["pass@1"]["mean"] == 0.5
    assert found["metrics"]["best_ranked"]["mean"] == 0
    assert found["generation"]["seed"] == 0
    assert len(found["problems"]) == 64
    assert [one.result for one in read_samples(path)] == ["failed", "passed"] * 3


def test_problems_that_lose_their_left_end_are_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = replace(PROBLEMS[1], prompt="# the cat sat on the mat\n" * 40 + PROBLEMS[1].prompt)
    problems = write_problems(tmp_path / "problems.jsonl", [PROBLEMS[0], long])
    given = ["evaluate-code", str(folder), str(problems), "--out", str(tmp_path / "out"), "--max-tokens", "8"]
    assert main([*given, "--samples", "1"]) == 2
    assert "prompt 2 of 2 has" in capsys.readouterr().err
    assert main([*given, "--samples", "1", "--cut-prompt"]) == 0
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("longer than the model's positions: the first ")
    assert first.endswith(f" tokens of {long.task_id} are dropped (--cut-prompt)")


def test_samples_depend_on_seed_problem_and_number_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    assert call(folder, tmp_path / "whole", "--samples", "3") == 0
    assert call(folder, tmp_path / "killed", "--samples", "1", "--slots", "1") == 0
    path = tmp_path / "killed" / "out" / "samples.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:])[:-5])
    assert call(folder, tmp_path / "killed", "--samples", "3", "--slots", "2") == 0
    ours, theirs = read_samples(path), read_samples(tmp_path / "whole" / "out" / "samples.jsonl")
    assert [one.completion for one in ours] == [one.completion for one in theirs]
    assert len({one.completion for one in ours}) > 3


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--samples", "0"], 2, "expected a number above 0"),
        (["--temperature", "-1"], 2, "temperature"),
        (["--timeout", "nan", "--run-code"], 2, "expected a number above 0"),
        (["--seed=-1"], 2, "seed: expected at least 0"),
        (["--seed", "1"], 2, "holds samples of another generation; write to a new folder"),
    ],
)
def test_what_cannot_be_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, message: str
) -> None:
    if "--seed" in options:
        assert call(folder, tmp_path, "--samples", "1") == 0
        capsys.readouterr()
    assert call(folder, tmp_path, *options) == code
    told = capsys.readouterr()
    assert message in told.err
    assert len(told.err.splitlines()) == 1
    assert ("--seed" in options) == (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert call(folder, tmp_path) == 2
    assert "is not empty, and not an evaluation of code" in capsys.readouterr().err

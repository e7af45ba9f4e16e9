"""The results of a comparison: scores with intervals, ranks, differences, what pretraining gave, and curves."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genus.cost import cost
from genus.doctor import PLATEAU
from genus.evaluate.interval import Interval, interval
from genus.study.comparison import PRETRAINED, RANDOM
from genus.study.correlation import Agreement, agreement
from genus.study.curves import below
from genus.study.ranks import Difference, Scores, detectable, paired, ranked
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from genus.study.comparison import Study
    from genus.study.entries import Entry
    from genus.study.measurements import Measurement
    from genus.study.named import NamedStudy


@dataclass(frozen=True)
class Cell:
    """A row in a measurement."""

    scores: Scores
    over: Interval
    rank: int
    random: Interval | None
    """Of the same row with random weights."""
    gain: Interval | None
    """Pretrained minus random, paired by seeds."""
    helped: bool | None
    """Whether pretraining helped, as far as the interval of the gain says; None: it does not say."""


@dataclass(frozen=True)
class Group:
    """Rows whose scores can be compared."""

    like: str
    """What the scores are of."""
    cells: dict[str, Cell]
    differences: list[tuple[str, str, Difference]]
    detectable: float | None
    """The smallest difference that so many seeds would show with a probability of 0.8."""


@dataclass(frozen=True)
class Measured:
    """All rows in a measurement."""

    name: str
    unit: str
    larger_is_better: bool
    groups: list[Group]
    without: dict[str, str]
    """Rows that have no score, and why."""


@dataclass(frozen=True)
class RowFacts:
    """What a row is, and how its training went, by seed."""

    name: str
    recipe: dict[str, Any]
    hash: str
    settings: tuple[str, ...]
    note: str
    paper: dict[str, float]
    parameters: int
    rate: float
    tried: dict[str, float | None]
    """Held-out loss by learning rate, where several were tried."""
    seconds_a_step: float | None
    training: dict[int, dict[str, Any]]
    plateau: dict[int, float | None]
    """Tokens after which it left the plateau of single tokens; None: not within the run, or it has no token loss."""


@dataclass(frozen=True)
class Results:
    """Everything that a comparison has found."""

    rows: list[RowFacts]
    measured: list[Measured]
    agreements: list[Agreement]
    missing: dict[str, str]
    about: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON."""
        found: dict[str, Any] = asdict(self)
        return found


def results(study: Study, failed: dict[str, str], named: NamedStudy | None = None) -> Results:
    """Return what is done of a comparison; rows of which a seed is missing are told by those that are there."""
    asked, done, missing = study.asked, dict[tuple[str, str, int], dict[str, Any]](), dict[str, str]()
    for job in study.row_jobs():
        found = job.done()
        key = (job.choices["start"], int(job.name.rpartition(" ")[2]))
        entry = job.name.removesuffix(f" {key[0]} {key[1]}")
        if found is None:
            missing[job.name] = failed.get(job.name, "not finished")
        else:
            done[entry, *key] = found
    rows = [_facts(study, entry, done) for entry in study.entries]
    measured = [_measured(one, study, done) for one in asked.measurements]
    about = {
        **surroundings(torch.device("cpu")),
        "budget": asked.budget.to_json(),
        "seeds": list(asked.seeds),
        "jobs": asked.jobs,
        "text": {"sources": list(asked.texts), "digest": study.text.digest, "bytes": study.text.bytes},
        "measurements": [one.written() for one in asked.measurements],
        "rate_share": asked.rate_share if asked.rates else None,
        "tokenizer": None if asked.tokenizer is None else str(asked.tokenizer),
        "study": None if named is None else named.to_json(),
        "plateau": PLATEAU,
    }
    return Results(rows, measured, agreements(rows, measured, named), missing, about)


def _facts(study: Study, entry: Entry, done: dict[tuple[str, str, int], dict[str, Any]]) -> RowFacts:
    training = {
        seed: done[entry.name, PRETRAINED, seed]["training"]
        for seed in study.asked.seeds
        if (entry.name, PRETRAINED, seed) in done
    }
    return RowFacts(
        name=entry.name,
        recipe=entry.recipe.written(),
        hash=entry.recipe.hash(),
        settings=entry.settings,
        note=entry.note,
        paper=entry.paper,
        parameters=cost(entry.recipe).parameters,
        rate=entry.recipe.optimizer.lr,
        tried={f"{rate:g}": loss for rate, loss in study.tried.get(entry.name, {}).items()},
        seconds_a_step=study.steps.get(entry.name),
        training=training,
        plateau={seed: below(one, PLATEAU) for seed, one in training.items()},
    )


def _measured(one: Measurement, study: Study, done: dict[tuple[str, str, int], dict[str, Any]]) -> Measured:
    """Return a measurement's scores, in groups of rows that can be compared."""
    scores: dict[str, dict[str, dict[str, Scores]]] = {}
    without: dict[str, str] = {}
    for entry in study.entries:
        for start in (PRETRAINED, RANDOM):
            for seed in study.asked.seeds:
                found = done.get((entry.name, start, seed), {}).get("scores", {}).get(one.name)
                if found is None:
                    continue
                if found["value"] is None:
                    without.setdefault(entry.name, found["detail"].get("why", "it is undefined"))
                    continue
                own = scores.setdefault(found["like"], {}).setdefault(entry.name, {PRETRAINED: {}, RANDOM: {}})
                own[start][seed] = found["value"]
    groups = [_group(like, rows, larger_is_better=one.larger_is_better) for like, rows in scores.items()]
    return Measured(one.name, one.unit, one.larger_is_better, [one for one in groups if one.cells], without)


def _group(like: str, rows: dict[str, dict[str, Scores]], *, larger_is_better: bool) -> Group:
    reached = {name: starts[PRETRAINED] for name, starts in rows.items() if starts[PRETRAINED]}
    ranks = ranked(reached, larger_is_better=larger_is_better)
    pairs = math.comb(len(reached), 2)
    found = [(a, b, paired(reached[a], reached[b], pairs)) for a, b in combinations(reached, 2)]
    apart = [(a, b, one) for a, b, one in found if one is not None]
    cells = {}
    for name, own in reached.items():
        drawn = rows[name][RANDOM]
        gain = paired(own, drawn)
        helped = None
        if gain is not None and gain.side:
            helped = (gain.side > 0) == larger_is_better
        random = interval([*drawn.values()]) if drawn else None
        over = None if gain is None else gain.over
        cells[name] = Cell(own, interval([*own.values()]), ranks[name], random, over, helped)
    deviations = [one.deviation for *_, one in apart if one.deviation is not None]
    seeds = min((len(one) for one in reached.values()), default=0)
    return Group(like, cells, apart, detectable(deviations, seeds, max(1, pairs)))


def agreements(rows: list[RowFacts], measured: list[Measured], named: NamedStudy | None) -> list[Agreement]:
    """Return the rank correlations of every measurement with the paper's column that decides, and others."""
    found = []
    for column, larger in (named.columns if named is not None else {}).items():
        theirs = {row.name: row.paper[column] for row in rows if column in row.paper}
        for one in measured:
            for group in one.groups:
                names = [name for name in group.cells if name in theirs]
                means = [float(np.mean([*group.cells[name].scores.values()])) for name in names]
                told = agreement(
                    means, [theirs[name] for name in names], column, one.name,
                    same_direction=larger == one.larger_is_better,
                )  # fmt: skip
                found += [] if told is None else [told]
    return found

"""The table of `family.py`: means with intervals, what each run cost, and each member's difference from the reference.

Legend: P pretraining seeds, F fine-tuning seeds of each, M members; y_mp is the mean over F of member m, seed p.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.evaluate.interval import Interval, interval, paired_bootstrap, t_quantile
from genus.evaluate.metrics import Metric
from genus.tasks.glue import GLUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DRAWS = 1000
CONFIDENCE = 0.95
FREEDOM = 5
"""Degrees of freedom below which no difference is claimed: a few runs can agree by luck."""
HEADER = """# The family at one budget

Written by `benchmarks/family.py` from `results.json`; do not edit.

Every member's `{size}` row, pretrained on English Wikipedia with {P} seeds and fine-tuned with {F} seeds from each.
Of the row are the model, the objectives, the examples and the kind of tokenizer; vocabulary size, optimizer, schedule,
batch and length are those of all members alike, and there is no dropout. "Same tokens" is {tokens:,.0f} tokens, "same
FLOPs" what these cost {reference}; a member whose tokens cost as much (within {alike:.0%}) has one run for both.
Fine-tuning saw {text:,} bytes of the training rows of each task, once. Scores are on GLUE's validation rows, on which
the best of a run's evaluations was also chosen: they compare members, and are no test scores."""
READING = """
## How to read it

* **Interval of a mean**: 95 %, for new pretraining and fine-tuning seeds on the same validation rows. Runs from one
  pretraining are not independent, so the unit is a pretraining (the mean of its {F} fine-tunings, with seeds that no
  other pretraining of the member has). {P} of them say
  little about their own spread, so the variance between pretrainings is pooled over members: mean ± t √(s² / {P}),
  where s² is the mean square of pretrainings within members. Those whose pretrainings do not differ at all, as they
  always give the same answer, are left out, since they would make everyone's interval narrower. t has as many degrees
  of freedom as members are left. It assumes that these vary alike.
* **Difference from {reference}**: paired by pretraining seed, in a two-way layout of members and seeds: difference
  ± t √(2 s² / {P}), where s² is the mean square of what neither explains, among the same members. In brackets
  behind it is the paired bootstrap over validation rows, which tells how much hangs on those rows.
* **better, worse** stand only where both intervals exclude 0, the first with {least} degrees of freedom or more;
  everything else is no difference that was shown.
  Nothing is corrected for the number of comparisons: of 20 pairs that are alike, about one would be marked by
  either interval.
* **constant** is the score of always giving the answer that scores best; who does not reach above it has learned
  nothing.
* **FLOPs** are of matrix products as `genus show` counts them. A member that learns from a trained model was taught by
  {reference}'s run of the same seed: the teacher's answers are counted, its own pretraining is *not* in the budget.
* Each member has its own kind of tokenizer, trained on the same text to {reference}'s vocabulary size. That of
  `wangchanberta` is made for Thai: every space is a piece of its own, so that as many tokens are less English text.
* A comparison at this size and budget says nothing of published sizes.
"""


class OverRuns(Metric):
    """The mean of a metric over runs: predictions are (N, runs)."""

    metric: Metric

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the mean."""
        return float(np.mean([self.metric(truth, run) for run in predicted.T]))


@dataclass(frozen=True)
class Scores:
    """What members reached at one budget in one task."""

    metric: Metric
    runs: dict[str, list[dict[str, Any]]]
    """By member, a result for each pretraining seed."""
    task: str
    truth: str

    def each(self, member: str) -> NDArray[np.float64]:
        """Return y_mp (P,)."""
        tasks = [run["tasks"][self.task]["metrics"] for run in self.runs[member]]
        return np.array([np.mean([found[self.metric.name] for found in seeds.values()]) for seeds in tasks])

    def varied(self) -> NDArray[np.float64]:
        """Return y of the members whose pretrainings differ at all (M', P)."""
        y = np.stack([self.each(one) for one in self.runs])
        return y[np.ptp(y, 1) > 0]

    def mean(self, member: str) -> Interval:
        """Return a member's mean with its interval, the variance pooled over members."""
        y = self.varied()
        return _student(float(self.each(member).mean()), y - y.mean(1, keepdims=True), self.freedom(0), 1.0)

    def difference(self, member: str, reference: str) -> Interval:
        """Return the difference of two members with its interval, paired by pretraining seed."""
        y = self.varied()
        rest = y - y.mean(1, keepdims=True) - y.mean(0) + y.mean() if len(y) else y
        return _student(float((self.each(member) - self.each(reference)).mean()), rest, self.freedom(1), 2.0)

    def freedom(self, taken: int) -> int:
        """Return the degrees of freedom of members that vary, less those taken, times (P - 1)."""
        members, seeds = self.varied().shape
        return max(0, members - taken) * (seeds - 1)

    def over_rows(self, member: str, reference: str) -> Interval:
        """Return the same difference with its interval over validation rows."""
        truth, ours, theirs = numbers([self.truth])[:, 0], self._answers(member), self._answers(reference)
        return paired_bootstrap(OverRuns(metric=self.metric), truth, ours, theirs, draws=DRAWS)

    def constant(self) -> float:
        """Return the score of the better of the two constant answers."""
        truth = numbers([self.truth])[:, 0]
        return max(self.metric(truth, np.full_like(truth, answer)) for answer in (0, 1))

    def _answers(self, member: str) -> NDArray[np.int64]:
        return numbers([line for run in self.runs[member] for line in run["tasks"][self.task]["answers"].values()])


def page(found: dict[str, Any]) -> str:
    """Return the page as Markdown."""
    told = found["command"]
    seeds, tuning = len(found["seeds"]["pretraining"]), len(next(iter(found["seeds"]["fine_tuning"].values())))
    tables = {budget: by_member(found, budget) for budget in ("tokens", "flops")}
    words = {
        "P": seeds,
        "F": tuning,
        "reference": found["reference"],
        "alike": found["alike"],
        "least": FREEDOM,
        "size": told["size"],
        "tokens": told["tokens"],
        "text": told["fine_tuning_text"],
    }
    lines = [HEADER.format(**words) + "\n"]
    for budget, title in (("tokens", "Same tokens"), ("flops", "Same FLOPs")):
        if found["reference"] in tables[budget]:
            scores = [scored(found, tables[budget], task) for task in found["tasks"]]
            lines += [f"## {title}\n", *table(scores, tables[budget]), ""]
            lines += [f"### {title}: difference from {found['reference']}\n", *compared(scores, found["reference"]), ""]
    lines += from_random(found)
    lines += [READING.format(**words).strip(), "\n## What is missing\n", *missing(found), "\n## Where\n", *place(found)]
    return "\n".join(lines) + "\n"


def by_member(found: dict[str, Any], budget: str) -> dict[str, list[dict[str, Any]]]:
    """Return the runs at a budget of every member for which none is missing, in the order of seeds."""
    known = {**found["runs"], **found["missing"]}
    members = dict.fromkeys(name.split()[0] for name in known)
    rows = {}
    for member in members:
        seeds = found["seeds"]["pretraining"]
        own = budget if any(f"{member} {budget} {seed}" in known for seed in seeds) else "tokens"
        runs = [found["runs"].get(f"{member} {own} {seed}") for seed in seeds]
        if all(runs):
            rows[member] = runs
    return rows


def scored(found: dict[str, Any], runs: dict[str, list[dict[str, Any]]], task: str) -> Scores:
    """Return the scores of a task."""
    return Scores(GLUE[task].metrics[0], runs, task, found["truth"][task])


def table(scores: Sequence[Scores], runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return the lines of means and costs."""
    heads = [f"{one.task} {one.metric.name}" for one in scores]
    lines = [_row("member", *heads, "parameters", "tokens", "FLOPs", "s pretraining", "s fine-tuning")]
    lines.append("|" + " --- |" * (len(heads) + 6))
    for member, each in runs.items():
        reached = [run["pretraining"] for run in each]
        tuned = [sum(sum(task["seconds"].values()) for task in run["tasks"].values()) for run in each]
        costs = [
            f"{each[0]['cost']['parameters'] / 1e6:.2f} M",
            *(f"{np.mean([one[key] for one in reached]):.3g}" for key in ("tokens", "flops")),
            *(f"{value:.0f}" for value in (np.mean([one["seconds"] for one in reached]), np.mean(tuned))),
        ]
        lines.append(_row(member, *(_told(one.mean(member)) for one in scores), *costs))
    return [*lines, _row("*constant*", *(f"{one.constant():.3f}" for one in scores), *[""] * 5)]


def compared(scores: Sequence[Scores], reference: str) -> list[str]:
    """Return the lines of differences."""
    lines = [_row("member", *(f"{one.task} {one.metric.name}" for one in scores)), "|" + " --- |" * (len(scores) + 1)]
    for member in scores[0].runs:
        if member != reference:
            lines.append(_row(member, *(_difference(one, member, reference) for one in scores)))
    return lines


def _difference(scores: Scores, member: str, reference: str) -> str:
    seeds, rows = scores.difference(member, reference), scores.over_rows(member, reference)
    sides = {_side(seeds) * (scores.freedom(1) >= FREEDOM), _side(rows)}
    verdict = {1: " **better**", -1: " **worse**"}.get(sides.pop(), "") if len(sides) == 1 else ""
    return f"{_told(seeds, sign=True)} ({rows.low:+.3f} to {rows.high:+.3f}){verdict}"


def _side(found: Interval) -> int:
    """Return on which side of 0 the whole interval is, 0 where it is on both or there is none."""
    if found.low is None or found.high is None:
        return 0
    return int(found.low > 0) - int(found.high < 0)


def from_random(found: dict[str, Any]) -> list[str]:
    """Return the lines of fine-tuning from random weights; Student's interval over its seeds, which are independent."""
    runs = {name.split()[0]: run for name, run in found["runs"].items() if name.split()[1] == "random"}
    if not runs:
        return []
    lines = ["## From random weights\n", "The same fine-tuning without pretraining; the interval is over its seeds.\n"]
    lines += [_row("member", *found["tasks"]), "|" + " --- |" * (len(found["tasks"]) + 1)]
    for member, run in runs.items():
        scores = {task: run["tasks"][task]["metrics"].values() for task in found["tasks"]}
        values = [[one[GLUE[task].metrics[0].name] for one in seeds] for task, seeds in scores.items()]
        lines.append(_row(member, *(_told(interval(each)) for each in values)))
    return [*lines, ""]


def missing(found: dict[str, Any]) -> list[str]:
    """Return a line for each run that is not there."""
    return [f"* {name}: {why}" for name, why in found["missing"].items()] or ["Nothing."]


def place(found: dict[str, Any]) -> list[str]:
    """Return where it was run."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    told = found["command"]
    return [
        f"{found['device']}, {found['cores']} cores, {told['jobs']} processes of {told['threads']} threads, "
        f"compilation {'on' if told['compile'] else 'off'}; commit {found['commit']}; Python {found['python']}, "
        f"{versions}."
    ]


def _student(mean: float, residuals: NDArray[np.float64], freedom: int, factor: float) -> Interval:
    """Return mean ± t √(factor s² / P), s² the mean square of residuals (M', P) with these degrees of freedom."""
    seeds = residuals.shape[1]
    if freedom < 1:
        return Interval(mean, None, None, seeds)
    variance = float((residuals**2).sum()) / freedom
    half = t_quantile(CONFIDENCE, freedom) * math.sqrt(factor * variance / seeds)
    return Interval(mean, mean - half, mean + half, seeds)


def numbers(lines: Sequence[str]) -> NDArray[np.int64]:
    """Return answers written as characters, a column a line."""
    return np.array([[int(character) for character in line] for line in lines]).T


def _told(found: Interval, *, sign: bool = False) -> str:
    value = f"{found.mean:+.3f}" if sign else f"{found.mean:.3f}"
    return value if found.high is None else f"{value} ± {found.high - found.mean:.3f}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"

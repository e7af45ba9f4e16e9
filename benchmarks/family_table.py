"""The page of `family.py`, written from its results: scores, differences, when each left the plateau, and costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from family_data import BLIMP, TEST, VALIDATION
from family_scores import FREEDOM, Scores, Spread, at, below, side

from genus.doctor import PLATEAU
from genus.evaluate.interval import interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.evaluate.interval import Interval

Runs = dict[str, list[dict[str, Any]]]
"""By member, a result for each pretraining seed."""
SEVERAL = 3
"""Tasks on which pretraining has to help, for the sentence that says so."""
MILESTONES = (0.25e6, 0.5e6, 1e6, 2e6, 5e6, 10e6, 20e6, 50e6, 100e6)
"""Tokens for which losses are shown."""
FAR_BELOW = 0.9
"""Share of the entropy of single tokens that tells who has come far below it."""
HEADER = """# The family at one budget

Written by `benchmarks/family.py` from `results.json`; do not edit.

Every member's `{size}` row, pretrained on {tokens:,.0f} tokens of English Wikipedia with {P}, and fine-tuned with {F}
seeds from each pretraining, and with the same seeds from random weights. Of the row are the model, the objectives,
the examples and the kind of tokenizer; vocabulary size ({vocabulary:,}), optimizer, schedule, length ({length}) and
batch ({batch} rows) are those of all members alike, and there is no dropout.

| task | what | trained on | score |
| --- | --- | --- | --- |
| ag_news | topic of a news text, of four | {ag_news:,} labeled texts | accuracy |
| emotion | emotion of a message, of six | {emotion:,} labeled messages | accuracy |
| conll2003 | names of people, places, organizations, others | {conll2003:,} tagged sentences | F1 of whole names |
| blimp | which of two sentences is grammatical: the likelier one | nothing | share of pairs, {blimp} a phenomenon |

Tasks and numbers of labels were chosen so that a network of this size learns them in seconds, and that pretraining
can matter; that was looked at before. So they say where small models differ, not how good they are. Scores are on
{test:,} test rows, the same for all; {validation} others chose the best evaluation of each run."""
READING = """
## How to read it

* **Intervals** are of 95 %. {unit}
* In brackets behind a difference is the bootstrap over test rows (pairs of BLiMP), the same resamples for all, which
  tells how much hangs on those rows.
* **Pretrained minus random**: paired by fine-tuning seed, which draws the order of the data and the new head.
  **more** and **less** stand where both intervals exclude 0. BLiMP is told apart once for each start, without
  fine-tuning: with one pretraining seed there is the interval over pairs alone. The intervals of random weights
  themselves are Student's over all their runs, each of which draws weights of its own.
* **Difference from {reference}**: paired by seeds. **better** and **worse** stand only with several pretraining
  seeds, {least} degrees of freedom or more, and both intervals on one side of 0; everything else is no difference
  that was shown.
* Nothing is corrected for the number of comparisons: of 20 pairs that are alike, about one would be marked by either
  interval.
* **constant** is the score of always giving the answer that scores best.
* **Bits per byte** are of the tokens that the objective predicts on held-out text: masked ones from both sides, of
  `transformer-xl` each from those before it, of `xlnet` a sixth in a random order, of `electra` by its generator. So
  they compare a member with itself, not members with each other; `transformer-xl` has words and one token for all
  unknown ones, which is easily guessed.
* **Left the plateau**: the number of tokens at the first evaluation on held-out text (every quarter of a million)
  from which on the loss of single tokens is at most {plateau} of the entropy of single tokens in the text (`genus
  doctor`'s criterion): at that level a model knows the frequencies of tokens and little else. The loss is that of the
  masked, permuted or next tokens (of `electra` the generator's; a member without such a loss would have none). What
  is masked differs between members (whole words, spans, rare words), and with it how hard it is to guess. Words of
  the same text can be guessed a little better than by frequency alone without their order, so the next column has
  the same of {far_below} of the entropy.
* BLiMP's likelihood is the pseudo-log-likelihood (`genus.log_likelihoods`), of `transformer-xl` the likelihood from
  left to right, of `electra` its generator's.
* **FLOPs** are of matrix products as `genus show` counts them. `distilbert` was taught by {reference}'s run of the
  same seed: the teacher's answers are counted, its own pretraining is *not* in the budget. Seconds are those of a
  clock, beside whatever else the machine did.
* Each member has its own kind of tokenizer, trained on the same text. That of `wangchanberta` is made for Thai: every
  space is a piece of its own, so that as many tokens are less English text.
* A comparison at this size and budget says nothing of published sizes."""
ONCE = """There is one pretraining seed yet: the interval is Student's over fine-tuning seeds only, and says
  nothing of what another pretraining would give."""
POOLED = """They are for new pretraining and fine-tuning seeds on the same rows. Runs from one
  pretraining are not independent, so the unit is a pretraining (the mean of its {F} fine-tunings). {P} of them say
  little about their own spread, so the variance between pretrainings is pooled over members: mean ± t √(s² / {P}),
  where s² is the mean square of pretrainings within members, with as many degrees of freedom as members vary. Of
  differences from {reference} it is √(2 s² / {P}), with s² the mean square of what neither members nor seeds
  explain. It assumes that members vary alike."""


@dataclass(frozen=True)
class Table:
    """The scores of members from starts of one kind, in all tasks."""

    runs: Runs
    tasks: dict[str, dict[str, Scores]]
    """By task and member."""

    @classmethod
    def of(cls, found: dict[str, Any], runs: Runs) -> Table:
        """Return the table of some runs."""
        metrics = {**found["metrics"], BLIMP: ""}
        scores = {
            task: {member: Scores.of(each, task, metric) for member, each in runs.items()}
            for task, metric in metrics.items()
        }
        return cls(runs, scores)

    def spread(self, task: str) -> Spread:
        """Return the scores of a task as values of runs."""
        return Spread({member: each.values for member, each in self.tasks[task].items()})


def page(found: dict[str, Any]) -> str:
    """Return the page as Markdown."""
    seeds = complete(found, ["tokens"])
    words = _words(found, len(seeds))
    lines = [HEADER.format(**words) + "\n"]
    reached = Table.of(found, of_members(found, "tokens", seeds))
    if reached.runs:
        lines += ["## Scores\n", *table(found, reached), ""]
        lines += ["## Pretrained minus random\n", *from_random(found), ""]
        lines += [f"## Difference from {found['reference']}\n", *compared(found, reached), ""]
        lines += ["## Held-out loss of single tokens, in nats, after so many tokens\n", *losses(reached.runs), ""]
        lines += ["## Costs\n", *costs(reached.runs), ""]
    if any(" flops " in name for name in found["runs"]):
        own = Table.of(found, of_members(found, "flops", complete(found, ["flops"])))
        lines += [f"## For the FLOPs of {found['reference']}\n", *table(found, own), ""]
        lines += [*compared(found, own), "", *costs(own.runs), ""]
    lines += [READING.format(**words).strip(), "\n## What is missing\n", *missing(found), "\n## Where\n", *place(found)]
    return "\n".join(lines) + "\n"


def _words(found: dict[str, Any], seeds: int) -> dict[str, Any]:
    tunings = len(next(iter(found["seeds"]["fine_tuning"].values())))
    words = {**found["command"]["tuned"], **found["settings"], "F": tunings, "reference": found["reference"]}
    words |= {"size": found["command"]["size"], "tokens": found["command"]["tokens"], "test": TEST}
    words |= {"validation": VALIDATION, "least": FREEDOM, "plateau": f"{PLATEAU:.0%}", "far_below": f"{FAR_BELOW:.0%}"}
    unit = ONCE if seeds == 1 else POOLED.format(**words, P=seeds)
    return words | {"P": "one seed" if seeds == 1 else f"{seeds} seeds", "unit": unit}


def complete(found: dict[str, Any], starts: Sequence[str]) -> list[int]:
    """Return the pretraining seeds with which all members are finished that are with the first one."""
    first, *rest = found["seeds"]["pretraining"]
    begun = [member for member in members(found) if all(_run(found, member, start, first) for start in starts)]
    return [
        first,
        *(seed for seed in rest if all(_run(found, member, start, seed) for member in begun for start in starts)),
    ]


def members(found: dict[str, Any]) -> list[str]:
    """Return all members, finished or not, the reference first."""
    return list(dict.fromkeys(name.split()[0] for name in {**found["runs"], **found["missing"]}))


def of_members(found: dict[str, Any], start: str, seeds: Sequence[int]) -> Runs:
    """Return the runs from a start of every member that has them with all these seeds."""
    every = {member: [_run(found, member, start, seed) for seed in seeds] for member in members(found)}
    return {member: [run for run in runs if run] for member, runs in every.items() if all(runs)}


def _run(found: dict[str, Any], member: str, start: str, seed: int) -> dict[str, Any] | None:
    """Return a finished run; a member without runs of so many FLOPs has those of so many tokens in their place."""
    known = {**found["runs"], **found["missing"]}
    own = "tokens" if start == "flops" and f"{member} flops {seed}" not in known else start
    run: dict[str, Any] | None = found["runs"].get(f"{member} {own} {seed}")
    return run


def table(found: dict[str, Any], reached: Table) -> list[str]:
    """Return the lines of scores, bits per byte, and when each left the plateau."""
    lines = _head(
        "member", *reached.tasks, "bits per byte", "left the plateau at", f"{FAR_BELOW:.0%} of the entropy at"
    )
    for member, runs in reached.runs.items():
        spreads = {task: reached.spread(task) for task in reached.tasks}
        means = [
            reached.tasks[task][member].over_rows() if spread.single else spread.mean(member)
            for task, spread in spreads.items()
        ]
        cells = [_told(mean) for mean in means]
        when = [", ".join(reach(run, share) for run in runs) for share in (PLATEAU, FAR_BELOW)]
        lines.append(_row(member, *cells, bits(runs), *when))
    level = [*(f"{found['constant'][task]:.3f}" for task in found["metrics"]), "0.500"]
    return [*lines, _row("*constant*", *level, "", "", "")]


def bits(runs: list[dict[str, Any]]) -> str:
    """Return the bits per byte of single tokens on held-out text at the end of the runs, in the mean."""
    ends = [run["curve"][-1] for run in runs]
    names = [f"{name}/bits_per_byte" for name in runs[0]["token_losses"]]
    return f"{np.mean([end[names[0]] for end in ends]):.3f}" if names else "none"


def reach(run: dict[str, Any], share: float) -> str:
    """Return when a run's loss of single tokens was below a share of their entropy, in words."""
    tokens = below(run, share)
    if not run["token_losses"]:
        return "no token loss"
    reached: float = run["pretraining"]["tokens"]
    return f"not within {reached / 1e6:.3g} M" if tokens is None else f"{tokens / 1e6:.2f} M"


def from_random(found: dict[str, Any]) -> list[str]:
    """Return the lines of scores less those from random weights, the latter themselves, and who gained."""
    seeds = complete(found, ["tokens", "random"])
    drawn = of_members(found, "random", seeds)
    both = {member: runs for member, runs in of_members(found, "tokens", seeds).items() if member in drawn}
    if not both:
        return ["No member is fine-tuned from random weights yet."]
    ours, theirs = Table.of(found, both), Table.of(found, {member: drawn[member] for member in both})
    apart = {
        task: Spread({member: scores[member].values - theirs.tasks[task][member].values for member in both})
        for task, scores in ours.tasks.items()
    }
    lines, gained = _head("member", *apart), {}
    for member in both:
        cells, signs = [], []
        for task, spread in apart.items():
            over = ours.tasks[task][member].over_rows(theirs.tasks[task][member])
            signs.append(side(over) if spread.single else _verdict(spread.mean(member), over))
            word = {1: " **more**", -1: " **less**"}.get(signs[-1], "")
            cells.append(f"{_told(spread.mean(member), sign=True)} ({over.low:+.3f} to {over.high:+.3f}){word}")
        gained[member] = signs.count(1)
        lines.append(_row(member, *cells))
    several = [member for member, number in gained.items() if number >= SEVERAL]
    fewer = [f"{member} ({number})" for member, number in gained.items() if number < SEVERAL]
    lines += [
        "",
        f"Outside both intervals, pretraining gives more than random weights on at least {SEVERAL} of the {len(apart)} "
        f"tasks for: {', '.join(several) or 'no member'}. It does not (in brackets, on how many it does) for: "
        f"{', '.join(fewer) or 'none'}.",
        "",
        "From random weights themselves:",
        "",
        *_head("member", *apart),
    ]
    for member in both:
        values = [scores[member] for scores in theirs.tasks.values()]
        cells = [
            _told(interval(one.values.ravel().tolist()) if one.values.size > 1 else one.over_rows()) for one in values
        ]
        lines.append(_row(member, *cells))
    return lines


def _verdict(over_runs: Interval, over_rows: Interval) -> int:
    """Return 1 or -1 where both intervals are on that side of 0, else 0."""
    sides = {side(over_runs), side(over_rows)}
    return sides.pop() if len(sides) == 1 else 0


def compared(found: dict[str, Any], reached: Table) -> list[str]:
    """Return the lines of differences from the reference."""
    reference = found["reference"]
    if reference not in reached.runs:
        return [f"{reference} is not finished yet."]
    lines = _head("member", *reached.tasks)
    for member in reached.runs:
        if member != reference:
            lines.append(_row(member, *(_difference(reached, task, member, reference) for task in reached.tasks)))
    return lines


def _difference(reached: Table, task: str, member: str, reference: str) -> str:
    spread, scores = reached.spread(task), reached.tasks[task]
    over_runs, over_rows = spread.difference(member, reference), scores[member].over_rows(scores[reference])
    verdict = _verdict(over_runs, over_rows) * (spread.freedom(1) >= FREEDOM)
    word = {1: " **better**", -1: " **worse**"}.get(verdict, "")
    return f"{_told(over_runs, sign=True)} ({over_rows.low:+.3f} to {over_rows.high:+.3f}){word}"


def losses(runs: Runs) -> list[str]:
    """Return the lines of held-out losses in the course of pretraining, the mean over seeds."""
    last = max(run["pretraining"]["tokens"] for each in runs.values() for run in each)
    shown = [tokens for tokens in MILESTONES if tokens <= 1.01 * last]
    lines = _head("member", "loss", "entropy of single tokens", *(f"{tokens / 1e6:g} M" for tokens in shown))
    for member, each in runs.items():
        points = [[at(run, tokens) for run in each] for tokens in shown]
        known = [[value for value in point if value is not None] for point in points]
        cells = [f"{np.mean(values):.2f}" if values else "" for values in known]
        lines.append(_row(member, *each[0]["token_losses"][:1], f"{each[0]['entropy']:.2f}", *cells))
    return lines


def costs(runs: Runs) -> list[str]:
    """Return the lines of what runs cost."""
    lines = _head("member", "parameters", "tokens", "FLOPs", "s pretraining", "s fine-tuning", "s BLiMP")
    for member, each in runs.items():
        reached = [run["pretraining"] for run in each]
        tuned = [sum(sum(task["seconds"].values()) for task in run["tasks"].values()) for run in each]
        seconds = [
            np.mean([one["seconds"] for one in reached]),
            np.mean(tuned),
            np.mean([run["pairs_seconds"] for run in each]),
        ]
        amounts = [f"{np.mean([one[key] for one in reached]):.3g}" for key in ("tokens", "flops")]
        own = f"{each[0]['cost']['parameters'] / 1e6:.2f} M"
        lines.append(_row(member, own, *amounts, *(f"{value:.0f}" for value in seconds)))
    return lines


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


def _told(found: Interval, *, sign: bool = False) -> str:
    value = f"{found.mean:+.3f}" if sign else f"{found.mean:.3f}"
    return value if found.high is None or found.low is None else f"{value} ± {(found.high - found.low) / 2:.3f}"


def _head(*cells: str) -> list[str]:
    return [_row(*cells), "|" + " --- |" * len(cells)]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"

"""The work of a comparison: jobs of all rows and seeds, what they take, learning rates that are tried before."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from genus import pipeline
from genus.cost import stage_cost
from genus.errors import GenusError, UsageError, say
from genus.export.folder import load_tokenizer
from genus.files import read_json
from genus.jobs import Job, carry_out
from genus.processes import cores
from genus.study.corpus import StudyText, study_text
from genus.study.entries import Entry, at_budget, teacher_of, with_rate
from genus.study.runs import FEWEST_BATCHES, RowJob, TokensJob, every
from genus.tokens.store import Store
from genus.tokens.tokenizer import Tokenizer
from genus.train.run import Run
from genus.train.timing import seconds_a_step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from genus.part import Json
    from genus.recipe import Budget
    from genus.study.measurements import Measurement
    from genus.train.data import TrainStage

LOOKED_AT = 1.0
"""Seconds for which steps of a row are counted."""
FILLED = 0.9
"""Share of a row of tokens that is text, about."""
PRETRAINED, RANDOM = "pretrained", "random"
"""What a row is measured from."""


@dataclass(frozen=True)
class Comparison:
    """All choices of a comparison."""

    entries: tuple[Entry, ...]
    budget: Budget
    seeds: tuple[int, ...]
    measurements: tuple[Measurement, ...]
    texts: tuple[str, ...]
    folder: Path
    run: Run = field(default_factory=Run)
    jobs: int = 1
    """Processes at a time."""
    rates: tuple[float, ...] = ()
    """Learning rates that are tried for each row; none: each keeps its own."""
    rate_share: float = 0.1
    """Of the budget, for each learning rate that is tried."""
    tokenizer: Path | None = None
    """One for all rows; None: each trains its own kind on the text."""

    def __post_init__(self) -> None:
        """Refuse what cannot be compared.

        Raises:
            UsageError: there is no row, no seed or no measurement, or one of them twice; a row that cannot take part,
                or cannot use the one tokenizer.
        """
        if self.jobs < 1:
            raise UsageError(f"--jobs: expected at least 1, got {self.jobs}")
        if not self.entries or not self.seeds or not self.measurements:
            raise UsageError("a comparison needs rows, seeds and something to measure: name some recipes, or --study")
        names = [one.name for one in self.measurements]
        if twice := [name for number, name in enumerate(names) if name in names[:number]]:
            raise UsageError(f"--measure: {twice[0]} is there twice; tables need folders of different names")
        at_budget(self.entries, self.budget)
        if self.rates:
            at_budget(self.entries, self.share_of(self.budget))
        for entry in self.entries:
            teacher_of(entry, self.entries)

    @property
    def threads(self) -> int:
        """Of each process: as the run settings say, else its share of the cores."""
        return self.run.threads or max(1, cores() // self.jobs)

    def share_of(self, budget: Budget) -> Budget:
        """Return the budget of a learning rate that is tried."""
        return replace(budget, amount=budget.amount * self.rate_share)


@dataclass
class Study:
    """A comparison with its text and what is known of it so far."""

    asked: Comparison
    text: StudyText
    contents: dict[str, Json]
    """Fingerprints of what measurements read."""
    steps: dict[str, float] = field(default_factory=dict)
    """Seconds of a training step by row, where it was timed."""
    tried: dict[str, dict[float, float | None]] = field(default_factory=dict)
    """Held-out loss by row and learning rate."""
    entries: list[Entry] = field(default_factory=list)
    """Rows with their budget, and with the learning rates that were best."""

    @classmethod
    def of(cls, asked: Comparison) -> Study:
        """Read what is measured, and write the text's two parts.

        Raises:
            GenusError: there is no text, it is empty, or what is measured cannot be read.
            UsageError: a row cannot use the tokenizer that is given.
        """
        for one in asked.measurements:
            one.check()
        if asked.tokenizer is not None:
            given = load_tokenizer(asked.tokenizer)
            for entry in asked.entries:
                try:
                    entry.recipe.with_tokens(given.tokens)
                except UsageError as error:
                    raise UsageError(f"{entry.name}: cannot share the tokenizer {asked.tokenizer}: {error}") from None
        text = study_text(asked.texts, asked.folder / "text")
        contents = {one.name: one.contents() for one in asked.measurements}
        return cls(asked, text, contents, entries=at_budget(asked.entries, asked.budget))

    def token_jobs(self) -> dict[str, Job]:
        """Return the jobs of tokenizers and stores, by the hash of what rows choose."""
        found: dict[str, Job] = {}
        for entry in self.entries:
            key, folder = entry.recipe.tokens.hash(), self._tokens(entry)
            work = TokensJob(entry.recipe, self.text.train, folder, self.asked.tokenizer)
            choices = {"tokens": entry.recipe.tokens.written(), "text": self.text.digest, "given": self._given}
            found.setdefault(key, Job(f"tokens of {entry.name}", work, folder / "done.json", choices, 0.0))
        return found

    @property
    def _given(self) -> str | None:
        """Hash of the tokenizer that all rows are given."""
        return None if self.asked.tokenizer is None else load_tokenizer(self.asked.tokenizer).hash()

    def _tokens(self, entry: Entry) -> Path:
        """Return the folder of a row's tokenizer and store: another text has another."""
        name = entry.recipe.tokens.hash() if self.asked.tokenizer is None else f"given-{self._given}"
        return self.asked.folder / "tokens" / f"{name}-{self.text.digest}"

    def row_jobs(self) -> list[Job]:
        """Return the jobs of all rows, the first seed of all rows first, pretrained and from random weights."""
        return [
            self._job(entry, seed, start)
            for seed in self.asked.seeds
            for entry in self.entries
            for start in (PRETRAINED, RANDOM)
        ]

    def rate_jobs(self) -> dict[tuple[str, float], Job]:
        """Return the jobs that try learning rates, by row and rate: the first seed, a share of the budget."""
        small = self.asked.share_of(self.asked.budget)
        tried = at_budget(self.asked.entries, small) if self.asked.rates else []
        return {
            (entry.name, rate): self._job(with_rate(entry, rate), self.asked.seeds[0], f"lr {rate:g}")
            for entry in tried
            for rate in self.asked.rates
        }

    def _job(self, entry: Entry, seed: int, start: str) -> Job:
        """Return the job of a row with a seed, from one start."""
        recipe, asked = replace(entry.recipe, seed=seed), self.asked
        name = f"{entry.name} {start} {seed}"
        folder = asked.folder / "rows" / entry.slug / f"{start.replace(' ', '-')}-{seed}"
        measured = asked.measurements if start in (PRETRAINED, RANDOM) else ()
        pretrained, teacher = start != RANDOM, teacher_of(entry, self.entries)
        choices: Json = {
            "recipe": recipe.written(), "text": self.text.digest, "tokenizer": self._given, "start": start,
            "teacher": teacher.recipe.hash() if teacher and pretrained else None, "version": version("genus"),
        }  # fmt: skip
        needs, taught = tuple[str, ...](), None
        if teacher and pretrained:
            needs = (f"{teacher.name} {PRETRAINED} {seed}",)
            taught = asked.folder / "rows" / teacher.slug / f"{PRETRAINED}-{seed}" / "run" / "model"
        evaluations, rows = every(self.steps_of(entry))
        batches = min(asked.run.evaluate_batches, max(FEWEST_BATCHES, evaluations))  # a third of training, at most
        run = replace(asked.run, evaluate_every=evaluations, evaluate_batches=batches, log_every=rows,
                      threads=asked.threads)  # fmt: skip
        work = RowJob(
            recipe, seed, folder, self._tokens(entry), self.text.held_out, measured, run, choices, self.contents,
            pretrained, taught,
        )  # fmt: skip
        told = choices | {"measurements": [one.written() for one in measured]}
        told |= {"contents": self.contents if measured else {}}
        return Job(name, work, folder / "result.json", told, self.seconds(entry, start), needs)

    def steps_of(self, entry: Entry) -> float:
        """Return about how many steps a row's budget is."""
        first, amount = entry.recipe.stages[0], entry.recipe.budget.amount
        match entry.recipe.budget.unit:
            case "tokens":
                return amount / (FILLED * first.batch * first.max_length)
            case "flops":
                return amount / (FILLED * stage_cost(entry.recipe, first).flops_step)
            case _:
                return amount / self.steps.get(entry.name, 1.0)

    def seconds(self, entry: Entry, start: str) -> float:
        """Return about how long a job takes, of a row that was timed; else in relation to others only."""
        first = entry.recipe.stages[0]
        step = self.steps.get(entry.name) or stage_cost(entry.recipe, first).flops_step * 1e-11
        pretraining = self.steps_of(entry) * step if start != RANDOM else 0.0
        measured = sum(one.tokens() for one in self.asked.measurements) if start in (PRETRAINED, RANDOM) else 0.0
        return pretraining + measured * step / (first.batch * first.max_length)

    def time(self, jobs: Sequence[Job]) -> None:
        """Time a few steps of each row that has something to do."""
        for entry in self.entries:
            if any(job.done() is None for job in jobs if job.name.startswith(f"{entry.name} ")):
                self.steps[entry.name] = self._timed(entry)

    def _timed(self, entry: Entry) -> float:
        """Return the seconds of a training step of a row's first stage, on the text, with random weights."""
        folder, recipe = self._tokens(entry), entry.recipe.exported
        tokenizer = Tokenizer.load(folder / "tokenizer")
        recipe, _ = pipeline.new_learner(recipe, tokenizer)
        stage: TrainStage = pipeline.stages(recipe, Store.open(folder / "store"), tokenizer)[0]

        def batches(step: int) -> dict[int, Any]:
            numbers = range(step * stage.accumulate, (step + 1) * stage.accumulate)
            return {number: stage.feed[number] for number in numbers}

        return seconds_a_step(recipe.learner, recipe.optimizer, batches, replace(self.asked.run, workers=0), LOOKED_AT)


def carried_out(asked: Comparison, ended: Callable[[Study, dict[str, str]], object]) -> tuple[Study, dict[str, str]]:
    """Do what is not done of a comparison; return it, and why by name for each job that failed.

    Args:
        asked: the comparison.
        ended: called whenever a job has ended, with the failures so far.

    Raises:
        GenusError: the text or a measurement cannot be read, or no learning rate of a row can be trained with.
        KeyboardInterrupt: when what runs has saved what it had reached.
    """
    study, failed = Study.of(asked), dict[str, str]()
    processes = asked.jobs if asked.jobs > 1 else 0
    failed |= carry_out([*study.token_jobs().values()], processes, asked.threads)
    if failed:
        raise GenusError("; ".join(f"{name}: {why}" for name, why in failed.items()))
    rate_jobs = study.rate_jobs()
    study.time([*rate_jobs.values(), *study.row_jobs()])
    rate_jobs, jobs = study.rate_jobs(), study.row_jobs()
    for line in [*changed([*rate_jobs.values(), *jobs]), expected(study, [*rate_jobs.values(), *jobs])]:
        say(line)
    if rate_jobs:
        failed |= carry_out([*rate_jobs.values()], processes, asked.threads)
        choose_rates(study, rate_jobs)
        jobs = study.row_jobs()
    failed |= carry_out(jobs, processes, asked.threads, partial(ended, study, failed))
    return study, failed


def finished(asked: Comparison) -> Study:
    """Return a comparison as far as it is done, and do nothing."""
    study = Study.of(asked)
    if asked.rates:
        choose_rates(study, study.rate_jobs())
    return study


def choose_rates(study: Study, jobs: dict[tuple[str, float], Job]) -> None:
    """Give each row the learning rate with the lowest held-out loss at the end of its short run.

    Raises:
        GenusError: a row diverged with all of them.
    """
    chosen = []
    for entry in study.entries:
        found: dict[float, float | None] = {}
        for rate in study.asked.rates:
            result = jobs[entry.name, rate].done()
            curve = result["training"]["curve"] if result else []
            found[rate] = curve[-1]["loss"] if curve else None
        known = {rate: loss for rate, loss in found.items() if loss is not None}
        if not known:
            raise GenusError(f"{entry.name}: none of the learning rates {', '.join(f'{one:g}' for one in found)} could "
                             "be trained with; take lower ones (--tune-lr)")  # fmt: skip
        study.tried[entry.name] = found
        chosen.append(with_rate(entry, min(known, key=lambda rate: known[rate])))
    study.entries = chosen


def expected(study: Study, jobs: Sequence[Job]) -> str:
    """Return one line that says how long what is not done will take."""
    todo = [job for job in jobs if job.done() is None]
    if not todo:
        return "everything is done already"
    seconds = sum(job.cost for job in todo)
    told = f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
    told = f"{seconds / 3600:.1f} hours" if seconds >= 5400 else told
    return (
        f"{len(todo)} of {len(jobs)} jobs to do ({len(study.entries)} rows, {len(study.asked.seeds)} seeds, from "
        f"pretrained and from random weights): about {told} on this machine, as busy as it is now; stop at any time "
        "and go on later"
    )


def changed(jobs: Sequence[Job]) -> list[str]:
    """Return a line for each result that was made with other choices, and is made anew."""
    told = []
    for job in jobs:
        if job.stale():
            try:
                before = read_json(job.result).get("choices") or {}
            except GenusError:
                before = {}
            now = dict(job.choices)
            names = [name for name in now if before.get(name) != now[name] and name not in ("measurements", "contents")]
            if names:
                told.append(f"{job.name}: what is there was made with another {', '.join(names)}, and is made anew")
            else:
                told.append(f"{job.name}: other measurements are asked for; what fits is kept")
    return told

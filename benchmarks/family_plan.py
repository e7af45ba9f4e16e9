"""Plans of pretrainings and fine-tunings from each: what studies of members have in common.

A study takes options, texts and tables from here, makes jobs of them and carries these out; what is finished is not
done again. `family.py` takes the settings that its members have in common from here.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from contenders import without_dropout
from family_data import BLIMP, PAIRS, TASKS, write_corpus, write_pairs, write_tables
from family_runs import Training, Words

from genus import catalog
from genus.cost import stage_cost
from genus.files import write_json
from genus.jobs import Job, carry_out
from genus.objectives.pretraining.distillation import Distillation
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.processes import cores
from genus.recipe import Budget, FineTuning, Recipe
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.optim import Optimizer, Schedule

RESULTS = Path(__file__).parent / "family"
REFERENCE = "bert"
"""Whose FLOPs are the budget, and with whom every member is compared."""
SEEDS = (0, 1)
ALIKE = 0.06
"""A member whose FLOPs a token differ from the reference's by less is run once for both budgets."""
TEXT = 8e6
"""Bytes of the corpus for `--tokens` up to half a million; more where a run would see text again."""
BYTES_PER_TOKEN = 5
"""Of text for each token of the budget: about 4 are one. Cheap members see text twice where FLOPs are the budget."""
SAMPLE = 2e7
"""Bytes of text that vocabularies are trained on, at most."""
TUNED_TOKENS = 50
"""Of a labeled row in an epoch, evaluation included; for the time left only."""
RANDOM = "random"
"""The start without pretraining."""
FAILED = 1


@dataclass(frozen=True)
class Settings:
    """What all rows of a study have in common; all else is the row's own."""

    optimizer: Optimizer
    schedule: Schedule
    finetuning: FineTuning
    """The pooler is the row's."""
    length: int
    batch: int
    """Rows of one update: many small ones."""
    tunings: int
    """Fine-tunings of each pretraining, with seeds of their own, so that what seeds do is not alike in all of them."""
    vocabulary: int = 8192
    """Pieces: in a short run all of them are seen often."""

    def tuning_seeds(self, seed: int) -> tuple[int, ...]:
        """Return the seeds of the fine-tunings of a pretraining of that seed."""
        return tuple(range(self.tunings * seed, self.tunings * (seed + 1)))


SETTINGS = Settings(
    optimizer=AdamW(lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01, clip_norm=1.0),
    schedule=Linear(warmup=0.05),
    finetuning=FineTuning(
        optimizer=AdamW(lr=5e-4, eps=1e-6, weight_decay=0.01, clip_norm=1.0),
        schedule=Linear(warmup=0.1),
        epochs=8,
        batch=16,
        max_length=64,
    ),
    length=64,
    batch=16,
    tunings=3,
)


def settled(recipe: Recipe, seed: int, settings: Settings = SETTINGS) -> Recipe:
    """Return the recipe with what all members have in common here; what makes the member stays.

    Vocabulary size (each its own kind of tokenizer, trained on the same text), length and batch of every stage,
    optimizer and schedule, no dropout (nobody sees a text twice), settings of fine-tuning but the pooler.
    """
    recipe = without_dropout(recipe)
    rows = {"max_length": settings.length, "batch": settings.batch, "micro_batch": settings.batch}
    return replace(
        recipe,
        tokens=replace(recipe.tokens, vocab_size=settings.vocabulary),
        stages=tuple(replace(stage, **rows) for stage in recipe.stages),
        optimizer=settings.optimizer,
        schedule=settings.schedule,
        finetuning=replace(settings.finetuning, pooler=recipe.finetuning.pooler),
        seed=seed,
    )


def flops_per_token(recipe: Recipe) -> float:
    """Return FLOPs of training a token, in the mean over the stages."""
    return sum(stage.share * stage_cost(recipe, stage).flops_training for stage in recipe.stages)


def members(size: str, wanted: list[str]) -> dict[str, Recipe]:
    """Return the rows of a size, by member; the reference first."""
    found = {member: sizes.get(f"{member}/{size}") for member, sizes in catalog.members().items()}
    rows = {member: row for member, row in found.items() if row is not None}
    if unknown := {*wanted} - rows.keys():
        sys.exit(f"--members: no {size} row of {', '.join(sorted(unknown))}; there are {', '.join(rows)}")
    chosen = [REFERENCE, *(member for member in wanted if member != REFERENCE)]
    return {member: rows[member] for member in chosen}


def plan(options: argparse.Namespace, rows: dict[str, Recipe]) -> list[Job]:
    """Return all jobs: vocabularies, and by seed the runs of so many tokens, random weights, runs of so many FLOPs."""
    jobs: dict[str, list[Job]] = {}
    for seed, (member, row) in product(SEEDS, rows.items()):
        recipe, reference = settled(row, seed), settled(rows[REFERENCE], seed)
        jobs.setdefault("words", []).append(own := words_of(options, recipe))
        recipe = replace(recipe, budget=Budget(amount=options.tokens, unit="tokens"))
        made = [training(options, member, recipe, own, f"{member} {start} {seed}") for start in ("tokens", RANDOM)]
        if options.flops and not alike(flops_per_token(recipe), flops_per_token(reference)):
            budget = Budget(amount=options.tokens * flops_per_token(reference), unit="flops")
            made.append(training(options, member, replace(recipe, budget=budget), own, f"{member} flops {seed}"))
        for job in made:
            jobs.setdefault(job.name.partition(" ")[2], []).append(job)
    return list({job.name: job for group in jobs.values() for job in group}.values())


def alike(flops: float, reference: float) -> bool:
    """Return whether a token costs as much as the reference's."""
    return abs(flops / reference - 1) <= ALIKE


def words_of(options: argparse.Namespace, recipe: Recipe) -> Job:
    """Return the job of a recipe's vocabulary and token store."""
    kind = recipe.tokens.hash()
    folder = options.out / "tokens" / kind
    work = Words(recipe, options.text, options.sample, folder)
    name = f"vocabulary {type(recipe.tokens).__name__} {kind[:8]}"
    sizes = {"text": options.text.stat().st_size, "sample": options.sample.stat().st_size}
    return Job(name, work, folder / "done.json", {"tokens": kind, **sizes}, 0.0)


def training(
    options: argparse.Namespace, member: str, recipe: Recipe, words: Job, name: str, settings: Settings = SETTINGS
) -> Job:
    """Return the job of one start, a pretraining or random weights, and of what is measured from it."""
    folder, budget = options.out / name.replace(" ", "-"), name.split()[1]
    pretrained, needs, teacher = budget != RANDOM, [words.name], None
    if pretrained and any(isinstance(objective, Distillation) for objective in recipe.objectives):
        needs.append(f"{REFERENCE} tokens {recipe.seed}")
        teacher = options.out / f"{REFERENCE}-tokens-{recipe.seed}" / "model"
    seeds = settings.tuning_seeds(recipe.seed)
    work = Training(
        recipe, folder, words.result.parent, options.tables, options.tasks, seeds, options.pairs, teacher, pretrained,
        options.compile,
    )  # fmt: skip
    choices = {
        "member": member,
        "budget": budget,
        "recipe": recipe.written(),
        "taught": teacher is not None,
        "tuned": options.tuned,
        "words": words.choices,
        "tuning_seeds": seeds,
    }
    amount = recipe.budget.amount if recipe.budget.unit == "flops" else recipe.budget.amount * flops_per_token(recipe)
    tuned = settings.tunings * recipe.finetuning.epochs * TUNED_TOKENS * options.labeled
    cost = pretrained * amount + tuned * flops_per_token(recipe)
    return Job(name, work, folder / "result.json", choices, cost, tuple(needs))


def take_over(jobs: list[Job], path: Path) -> None:
    """Let the runs in earlier results serve that had the same choices, so that their folders may be gone.

    Each tells its own device and commit; what is measured are scores, which depend on these no more than on rounding.
    """
    if not path.exists():
        return
    earlier = json.loads(path.read_text(encoding="utf-8"))["runs"]
    needed: set[str] = set()
    for job in reversed(jobs):  # what others need comes before them, and must have its folder
        found = earlier.get(job.name)
        if job.done() is not None:
            continue
        if found and job.name not in needed and job.fits(found):
            job.take(found)
        else:
            needed |= {*job.needs}


def parser(text: str, results: Path) -> argparse.ArgumentParser:
    """Return the options of what pretrains and fine-tunes alike; what is finished in `--out` serves them all."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True, help="the folder that holds the corpora and the tasks")
    made.add_argument("--out", type=Path, default=Path("runs/family"), help="where runs go, and are found again")
    made.add_argument("--size", default="tiny", help="rows of which size")
    made.add_argument("--tokens", type=float, default=1e7, help="budget of each pretraining")
    made.add_argument("--rows", type=int, help="rows of each table of a task at most, and pairs, for a trial")
    made.add_argument("--jobs", type=int, default=cores(), help="processes, each with its share of the cores")
    made.add_argument("--compile", action="store_true", help="pays from about a million tokens on")
    made.add_argument("--results", type=Path, default=results)
    return made


def prepare(options: argparse.Namespace) -> None:
    """Add to the options what follows from them, and write the text and the tables where they are missing."""
    options.threads = max(1, cores() // options.jobs)
    size = int(max(TEXT, BYTES_PER_TOKEN * options.tokens))
    options.text, options.sample = (options.out / f"text-{bytes}.jsonl" for bytes in (size, min(size, int(SAMPLE))))
    for path, bytes in ((options.text, size), (options.sample, min(size, int(SAMPLE)))):
        write_corpus(options.data / "en_wikipedia" / "train.jsonl.xz", path, bytes)
    options.tuned = {task: few.labeled for task, few in TASKS.items()} | {BLIMP: PAIRS}
    if options.rows is not None:
        options.tuned = {task: min(number, options.rows) for task, number in options.tuned.items()}
    options.labeled = sum(options.tuned[task] for task in TASKS)
    options.tables = options.out / f"tables-{options.rows or 'all'}"
    options.tasks = {task: few.task for task, few in TASKS.items()}
    options.pairs = options.tables / f"{BLIMP}.jsonl"
    for task, few in TASKS.items():
        write_tables(options.data / few.source, options.tables / task, few.task, options.tuned[task], options.rows)
    write_pairs(options.data / BLIMP, options.pairs, options.tuned[BLIMP])


def carried_out(
    options: argparse.Namespace, jobs: list[Job], finished: Callable[[], object] | None = None
) -> dict[str, str]:
    """Do what is not done, calling `finished` after each; return why by the name of each job that failed."""
    try:
        return carry_out(jobs, options.jobs, options.threads, finished)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")


def publish(path: Path, command: dict[str, Any], scores: Any, jobs: list[Job]) -> None:
    """Write results: where they were made, by which command, the scores, and what each finished job returned."""
    runs = {job.name: done for job in jobs if (done := job.done())}
    write_json(path, {**surroundings(torch.device("cpu")), "command": command, "scores": scores, "runs": runs})


def leave(failed: dict[str, str]) -> None:
    """Say why jobs failed, if any did, and exit with `FAILED` then."""
    if failed:
        print("\n".join(f"{name}: {why}" for name, why in failed.items()), file=sys.stderr)
        sys.exit(FAILED)

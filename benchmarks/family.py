"""Every member at one budget of tokens and at one of FLOPs: pretrained on Wikipedia, fine-tuned on tasks of GLUE.

    python benchmarks/family.py --data ../shared/data --out runs/family --jobs 2

Members are those of the catalog that have the size. Each is pretrained with two seeds and fine-tuned with three from
each of them, on SST-2, MRPC and RTE, all with the same settings. The FLOPs are those of the reference for the tokens;
a member that costs as much a token is run once for both. What is finished is not done again, even where its results
alone are left: stop it at any moment, by Ctrl-C or by force, and run the same command. Results go to
`benchmarks/family/`, a table and all numbers behind it; `--report` writes it from what is finished so far.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from contenders import without_dropout
from family_runs import TASKS, TUNING, TUNINGS, Training, Words, tuning_seeds, write_corpus, write_tables
from family_table import page
from jobs import Job, carry_out

from genus import catalog
from genus.cost import stage_cost
from genus.files import write_json, write_text
from genus.objectives.pretraining.distillation import Distillation
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, Recipe
from genus.tasks.glue import GLUE
from genus.train.provenance import surroundings

RESULTS = Path(__file__).parent / "family"
REFERENCE = "bert"
"""Whose FLOPs are the budget, and with whom every member is compared."""
SEEDS = (0, 1)
ALIKE = 0.06
"""A member whose FLOPs a token differ from the reference's by less is run once for both budgets."""
VOCABULARY = 8192
"""Pieces: in a short run all of them are seen often."""
LENGTH, BATCH = 128, 8
"""Rows of one update: many small ones."""
OPTIMIZER = AdamW(lr=7e-4, eps=1e-6, weight_decay=0.01, clip_norm=1.0)
SCHEDULE = Linear(warmup=0.05)
TEXT = 8e6
"""Bytes of the corpus for `--tokens` up to half a million; more where a run would see text again."""
BYTES_PER_TOKEN = 16
"""Of text for each token of the budget: about 4 are one, and cheap members see more of them for their FLOPs."""
TUNING_TOKENS = 25_000, 0.5
"""Evaluating all tasks once, and an epoch for a byte of text of each, in training tokens; for the time left only."""
FAILED = 1


def settled(recipe: Recipe, seed: int) -> Recipe:
    """Return the recipe with what all members have in common here; what makes the member stays.

    Vocabulary size (each its own kind of tokenizer, trained on the same text), length and batch of every stage,
    optimizer and schedule, no dropout (nobody sees a text twice), settings of fine-tuning but the pooler.
    """
    recipe = without_dropout(recipe)
    stages = tuple(replace(stage, max_length=LENGTH, batch=BATCH, micro_batch=BATCH) for stage in recipe.stages)
    return replace(
        recipe,
        tokens=replace(recipe.tokens, vocab_size=VOCABULARY),
        stages=stages,
        optimizer=OPTIMIZER,
        schedule=SCHEDULE,
        finetuning=replace(TUNING, pooler=recipe.finetuning.pooler),
        seed=seed,
    )


def flops_per_token(recipe: Recipe) -> float:
    """Return FLOPs of training a token, in the mean over the stages."""
    return sum(stage.share * stage_cost(recipe, stage).flops_training for stage in recipe.stages)


def members(size: str, wanted: list[str] | None) -> dict[str, Recipe]:
    """Return the rows of a size, by member; the reference first."""
    found = {member: sizes.get(f"{member}/{size}") for member, sizes in catalog.members().items()}
    rows = {member: row for member, row in found.items() if row is not None}
    if unknown := {*(wanted or ())} - rows.keys():
        sys.exit(f"--members: no {size} row of {', '.join(sorted(unknown))}; there are {', '.join(rows)}")
    chosen = [REFERENCE, *(member for member in wanted or rows if member != REFERENCE)]
    return {member: rows[member] for member in chosen}


def plan(options: argparse.Namespace, rows: dict[str, Recipe]) -> list[Job]:
    """Return all jobs: vocabularies, runs of so many tokens, fine-tuning from random weights, runs of so many FLOPs."""
    words, tokens, flops, random = [], [], [], []
    for seed, (member, row) in product(SEEDS, rows.items()):
        recipe, reference = settled(row, seed), settled(rows[REFERENCE], seed)
        words.append(own := words_of(options, recipe))
        recipe = replace(recipe, budget=Budget(amount=options.tokens, unit="tokens"))
        tokens.append(training(options, member, recipe, own, f"{member} tokens {seed}"))
        if member in options.random and seed == SEEDS[0]:
            random.append(training(options, member, recipe, own, f"{member} random {seed}", pretrained=False))
        if not alike(flops_per_token(recipe), flops_per_token(reference)):
            budget = Budget(amount=options.tokens * flops_per_token(reference), unit="flops")
            flops.append(training(options, member, replace(recipe, budget=budget), own, f"{member} flops {seed}"))
    return list({job.name: job for job in [*words, *tokens, *random, *flops]}.values())


def alike(flops: float, reference: float) -> bool:
    """Return whether a token costs as much as the reference's."""
    return abs(flops / reference - 1) <= ALIKE


def words_of(options: argparse.Namespace, recipe: Recipe) -> Job:
    """Return the job of a recipe's vocabulary and token store."""
    kind = recipe.tokens.hash()
    folder = options.out / "tokens" / kind
    work = Words(recipe, options.text, options.sample, folder)
    name = f"vocabulary {type(recipe.tokens).__name__} {kind[:8]}"
    return Job(name, work, folder / "done.json", {"tokens": kind, "text": options.text.stat().st_size}, 0.0)


def training(
    options: argparse.Namespace, member: str, recipe: Recipe, words: Job, name: str, *, pretrained: bool = True
) -> Job:
    """Return the job of one pretraining, or of random weights, and its fine-tunings."""
    folder = options.out / name.replace(" ", "-")
    needs, teacher = [words.name], None
    if pretrained and any(isinstance(objective, Distillation) for objective in recipe.objectives):
        needs.append(f"{REFERENCE} tokens {recipe.seed}")
        teacher = options.out / f"{REFERENCE}-tokens-{recipe.seed}" / "model"
    work = Training(
        recipe, folder, words.result.parent, options.tables, options.tasks, teacher, pretrained, options.compile
    )
    choices = {
        "member": member,
        "budget": name.split()[1],
        "recipe": recipe.written(),
        "taught": teacher is not None,
        "tuned_text": options.fine_tuning_text,
        "text": words.choices["text"],
        "tuning_seeds": tuning_seeds(recipe.seed),
    }
    amount = recipe.budget.amount if recipe.budget.unit == "flops" else recipe.budget.amount * flops_per_token(recipe)
    evaluated, a_byte = TUNING_TOKENS
    tuned = TUNINGS * TUNING.epochs * (evaluated + a_byte * options.fine_tuning_text)
    cost = pretrained * amount + tuned * flops_per_token(recipe)
    return Job(name, work, folder / "result.json", choices, cost, tuple(needs))


def results(options: argparse.Namespace, jobs: list[Job], failed: dict[str, str]) -> dict[str, Any]:
    """Return everything that is finished, as JSON."""
    found = {job.name: job.done() for job in jobs}
    return {
        **surroundings(torch.device("cpu")),
        "command": {
            "size": options.size,
            "tokens": options.tokens,
            "fine_tuning_text": options.fine_tuning_text,
            "compile": options.compile,
            "jobs": options.jobs,
            "threads": options.threads,
            "text_bytes": options.text.stat().st_size,
        },
        "reference": REFERENCE,
        "alike": ALIKE,
        "tasks": TASKS,
        "seeds": {"pretraining": SEEDS, "fine_tuning": {seed: tuning_seeds(seed) for seed in SEEDS}},
        "truth": {task: truth(options.tables / task / "validation.jsonl") for task in TASKS},
        "runs": {name: result for name, result in found.items() if result},
        "missing": {name: failed.get(name, "not finished") for name, result in found.items() if not result},
    }


def take_over(jobs: list[Job], path: Path) -> None:
    """Let the runs in earlier results serve that had the same choices and device, so that their folders may be gone."""
    if not path.exists():
        return
    earlier, device = json.loads(path.read_text(encoding="utf-8"))["runs"], surroundings(torch.device("cpu"))["device"]
    needed: set[str] = set()
    for job in reversed(jobs):  # what others need comes before them, and must have its folder
        found = earlier.get(job.name)
        if job.done() is not None:
            continue
        if found and job.name not in needed and job.fits(found) and found["surroundings"]["device"] == device:
            job.take(found)
        else:
            needed |= {*job.needs}


def truth(table: Path) -> str:
    """Return the labels of a table, a character each."""
    from genus.tasks.table import rows

    return "".join(str(row["label"]) for _, row in rows(table))


def parser(text: str, results: Path) -> argparse.ArgumentParser:
    """Return the options of what pretrains and fine-tunes alike; what is finished in `--out` serves them all."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True, help="the folder that holds the corpora and the tasks")
    made.add_argument("--out", type=Path, default=Path("runs/family"), help="where runs go, and are found again")
    made.add_argument("--size", default="mini", help="rows of which size")
    made.add_argument("--tokens", type=float, default=8e5, help="budget of each pretraining")
    made.add_argument(
        "--fine-tuning-text", type=int, default=300_000, help="bytes of each task's training rows, at most"
    )
    made.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes, each with its share of the cores")
    made.add_argument("--compile", action="store_true", help="pays from about a million tokens on")
    made.add_argument("--results", type=Path, default=results)
    return made


def prepare(options: argparse.Namespace) -> None:
    """Add to the options what follows from them, and write the text and the tables where they are missing."""
    options.threads = max(1, (os.cpu_count() or 1) // options.jobs)
    size = int(max(TEXT, BYTES_PER_TOKEN * options.tokens))
    options.text = options.sample = options.out / f"text-{size}.jsonl"
    options.tables = options.out / f"tables-{options.fine_tuning_text}"
    options.tasks = {task: GLUE[task] for task in TASKS}
    write_corpus(options.data / "en_wikipedia" / "train.jsonl.xz", options.text, size)
    for task in TASKS:
        write_tables(options.data / "glue" / task, options.tables / task, options.fine_tuning_text)


def carried_out(options: argparse.Namespace, jobs: list[Job]) -> dict[str, str]:
    """Do what is not done; return why by the name of each job that failed."""
    try:
        return carry_out(jobs, options.jobs, options.threads)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")


def main() -> None:
    command = parser(__doc__, RESULTS)
    command.add_argument("--members", nargs="+", help="by default all that have the size")
    command.add_argument("--random", nargs="*", default=[], help="members also fine-tuned from random weights")
    command.add_argument("--report", action="store_true", help="write the report only")
    options = command.parse_args()
    rows = members(options.size, options.members and list(dict.fromkeys([*options.members, *options.random])))
    prepare(options)
    jobs = plan(options, rows)
    take_over(jobs, options.results / "results.json")
    failed = {} if options.report else carried_out(options, jobs)
    found = results(options, [job for job in jobs if isinstance(job.work, Training)], failed)
    write_json(options.results / "results.json", found)
    write_text(options.results / "README.md", page(found))
    print(f"{options.results / 'README.md'}: {len(found['runs'])} runs, {len(found['missing'])} missing")
    for name, why in failed.items():
        print(f"{name}: {why}", file=sys.stderr)
    if failed:
        sys.exit(FAILED)


if __name__ == "__main__":
    main()

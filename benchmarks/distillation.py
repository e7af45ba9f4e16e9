"""What distillation keeps: a student beside its teacher, and beside the same network without a teacher.

    python benchmarks/distillation.py --data ../shared/data --out runs/family --jobs 2

As Sanh et al. 2019, tables 1 to 3, in small: score on tasks with few labels, parameters, and tokens a second of
inference on the CPU, taken in alternating turns. All are pretrained and fine-tuned as in `family.py`, whose runs
serve here too: in its folder only the student without a teacher is left to train. Stop it at any moment and run the
same command.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import torch
from family_data import TASKS
from family_plan import FAILED, RANDOM, REFERENCE, SEEDS, carried_out, members, parser, plan, prepare, settled
from family_runs import Training

from genus import pipeline
from genus.cost import cost
from genus.errors import GenusError
from genus.evaluate.interval import interval
from genus.export.folder import load
from genus.files import write_json
from genus.model.cpu import tune_cpu_process
from genus.tokens.store import Store
from genus.tokens.tokenizer import Tokenizer
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from genus.jobs import Job
    from genus.recipe import Recipe

RESULTS = Path(__file__).parent / "results" / "distillation.json"
STUDENT, ALONE = "distilbert", "distilbert-without-teacher"
BATCHES = 4
"""Different micro-batches that each forward pass of a round takes once."""


def contenders(size: str) -> dict[str, Recipe]:
    """Return the rows, the teacher first; `ALONE` is the student's less its teacher."""
    rows = members(size, [STUDENT])
    return {**rows, ALONE: replace(rows[STUDENT].exported, name=f"{ALONE}/{size}")}


def scores(jobs: dict[str, Job], member: str) -> dict[str, Any]:
    """Return a member's score in each task over its pretrainings, each the mean of its fine-tunings, and of all."""
    runs = [jobs[f"{member} tokens {seed}"].done() for seed in SEEDS]
    metrics = {task: few.task.metrics[0].name for task, few in TASKS.items()}
    each = {
        task: [fmean(one[metric] for one in run["tasks"][task]["metrics"].values()) for run in runs if run]
        for task, metric in metrics.items()
    }
    return {
        "scores": {task: asdict(interval(values)) | {"pretrainings": values} for task, values in each.items()},
        "score": fmean(fmean(values) for values in each.values()),
        "pretraining": [run["pretraining"] for run in runs if run],
    }


def timed(rows: dict[str, Recipe], folders: dict[str, Path], words: Path, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each network's forward passes over the same packed text, in alternating turns."""
    tokenizer = Tokenizer.load(words / "tokenizer")
    feed = pipeline.training_feed(settled(rows[ALONE], 0), Store.open(words / "store", tokenizer), tokenizer, stage=0)
    batches = [feed[number] for number in range(BATCHES)]
    networks = {member: load(folder / "model").learner.eval().network for member, folder in folders.items()}
    seconds: dict[str, list[float]] = {member: [] for member in networks}
    with torch.inference_mode():
        for number in range(rounds + 1):  # the first does not count
            for member, network in networks.items():
                begun = time.perf_counter()
                for batch in batches:
                    network(batch)
                if number:
                    seconds[member].append(time.perf_counter() - begun)
    return seconds


def compared(rows: dict[str, Recipe], found: dict[str, Any], seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Return and print everything, relative to the teacher too."""
    teacher = cost(settled(rows[REFERENCE], 0)).network, found[REFERENCE]["score"]
    for member, row in found.items():
        ratios = [a / b for a, b in zip(seconds[REFERENCE], seconds[member], strict=True)]
        row["parameters"] = cost(settled(rows[member], 0)).network
        row["seconds"], row["times_as_fast"] = seconds[member], [median(ratios), min(ratios), max(ratios)]
        row["size"], row["kept"] = row["parameters"] / teacher[0], row["score"] / teacher[1]
        tasks = ", ".join(f"{task} {row['scores'][task]['mean']:.3f}" for task in TASKS)
        print(
            f"{member:26} {row['parameters']:>11,} parameters ({row['size']:.0%}), {median(ratios):.2f} times as fast, "
            f"score {row['score']:.3f} ({row['kept']:.1%}): {tasks}"
        )
    return found


def main() -> None:
    command = parser(__doc__, RESULTS)
    command.add_argument("--rounds", type=int, default=20, help="of the inference, each contender once")
    options = argparse.Namespace(**vars(command.parse_args()), flops=False)
    rows = contenders(options.size)
    prepare(options)
    jobs = {job.name: job for job in plan(options, rows) if f" {RANDOM} " not in job.name}
    if failed := carried_out(options, list(jobs.values())):
        sys.exit("\n".join(f"{name}: {why}" for name, why in failed.items()))
    tune_cpu_process()
    works = {member: jobs[f"{member} tokens 0"].work for member in rows}
    folders = {member: work.folder for member, work in works.items() if isinstance(work, Training)}
    words = next(work.words for work in works.values() if isinstance(work, Training))
    seconds = timed(rows, folders, words, options.rounds)
    found = compared(rows, {member: scores(jobs, member) for member in rows}, seconds)
    told = {name: getattr(options, name) for name in ("size", "tokens", "tuned", "rounds", "compile")}
    write_json(
        options.results, surroundings(torch.device("cpu")) | {"command": told, "tasks": [*TASKS], "contenders": found}
    )


if __name__ == "__main__":
    try:
        main()
    except GenusError as error:
        print(error, file=sys.stderr)
        sys.exit(FAILED)

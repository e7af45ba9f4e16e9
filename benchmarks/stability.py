"""What each choice for a stable fine-tuning is worth on small tables: RTE and CoLA, one choice changed at a time.

    python benchmarks/stability.py --data ../shared/data                                # five seeds, all rows
    python benchmarks/stability.py --data ../shared/data --tasks rte --ways base "no warm-up" --seeds 3
    python benchmarks/stability.py --data ../shared/data --rows 1000 --lr 2e-5 1e-4     # 1,000 rows, two rates

The base is that of Mosbach et al. 2021 (released code, configs/rte): AdamW with bias correction at 2e-5, updates of 16
rows, warm-up over a tenth of them, 3 epochs, the last weights. 20 epochs are theirs too; layer-wise rates fall by 0.95,
and a top layer of the 6 is drawn anew, where Zhang et al. 2021 (released code, sample_commands) have 5 of 24. Their
models are BERT large: `--lr` tells whether a small one needs more. Best weights and early stopping change nothing
before they choose, so that both are read off the evaluations of the base, twice an epoch, and of the 20 epochs, once an
epoch, by the rule that `genus finetune` follows; they are chosen by the very rows that are measured. A run has failed
if it is no better than the answer of the most labels. The weights are those of all-MiniLM-L6-v2, as `minilm.py` says.
What is finished is not done again: stop it at any moment and run the same command, or make it in pieces.
"""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from minilm import MODEL, Rows, add_rows, groups, named, parser, prepare, run, settled, study
from minilm_runs import Learning, settings
from torch import nn

from genus.evaluate.interval import interval
from genus.jobs import Job
from genus.optim.schedule import Linear
from genus.tasks.glue import GLUE
from genus.tasks.study import BestCheckpoint
from genus.tasks.table import rows as table_rows

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from genus.evaluate.metrics import Metric
    from genus.optim.adamw import AdamW
    from genus.recipe import FineTuning

RESULTS = Path(__file__).parent / "results" / "stability.json"
TASKS = ("rte", "cola")
BASE, LONG = "base", "20 epochs"
PATIENCE = 3
"""Evaluations in a row without a better one: one and a half epochs of the base, three of the longer training; ours."""
READ: dict[str, tuple[str, int | None]] = {
    "best weights": (BASE, None),
    "early stopping": (BASE, PATIENCE),
    f"{LONG}, best weights": (LONG, None),
    f"{LONG}, early stopping": (LONG, PATIENCE),
}
"""What is read off the evaluations of a way, with its patience."""


def ways(lr: float) -> dict[str, FineTuning]:
    """Return the settings by the name of what is changed."""
    base = settings(lr, epochs=3, batch=16, eps=1e-6)
    return {
        BASE: base,
        "no bias correction": replace(base, optimizer=replace(cast("AdamW", base.optimizer), bias_correction=False)),
        "no warm-up": replace(base, schedule=Linear(warmup=0)),
        "layer-wise rates": replace(base, optimizer=replace(base.optimizer, layer_decay=0.95)),
        "top layer anew": replace(base, reinitialize=1),
        LONG: replace(base, epochs=20),
    }


def main() -> None:
    options = parsed()
    told = {name: getattr(options, name) for name in ("tasks", "rows", "measured", "seeds", "lr", "ways", "threads")}
    study(options, plan(options), told | {"model": MODEL}, table)


def parsed() -> argparse.Namespace:
    """Return the options, with the tables written."""
    made = parser(__doc__ or "", RESULTS, TASKS, 5)
    add_rows(made)
    made.add_argument("--lr", nargs="+", type=float, default=[2e-5], help="peak rates")
    made.add_argument("--ways", nargs="+", choices=ways(0), default=[*ways(0)], help="what is trained, by default all")
    options = settled(made)
    prepare(options, {name: (f"glue/{name}", None) for name in TASKS})
    return options


def plan(options: argparse.Namespace) -> dict[str, Job]:
    """Return all jobs by name: by seed, task, rate and way."""
    jobs = {}
    for seed in range(options.seeds):
        for task in options.tasks:
            rows, share = options.drawn[task], majority(options.tables[task] / "validation.jsonl", GLUE[task].label)
            for lr in options.lr:
                for way, tuned in ways(lr).items():
                    if way not in options.ways:
                        continue
                    name = named(task, f"{rows} rows", f"rate {lr:g}", way, seed=seed)
                    folder = options.out / name
                    work = Learning(
                        GLUE[task], options.tables[task], options.model, folder, seed, tuned, options.precision
                    )
                    choices = {
                        "task": GLUE[task].written(), "rows": rows, "measured": options.measured, "seed": seed,
                        "settings": tuned.written(), "majority": share, "precision": options.precision,
                    }  # fmt: skip
                    jobs[name] = Job(name, work, folder / "result.json", choices, rows * tuned.epochs)
    return jobs


def majority(path: Path, label: str) -> float:
    """Return the accuracy of the answer of the most labels."""
    labels = Counter(str(row[label]) for _, row in table_rows(path))
    return max(labels.values()) / labels.total()


def kept(history: Sequence[dict[str, Any]], metric: Metric, patience: int | None) -> tuple[dict[str, Any], int]:
    """Return the metrics of the evaluation whose weights are kept, by fine-tuning's rule, and how many are made."""
    found = iter(history)
    best = BestCheckpoint(lambda _: next(found), metric, patience=patience)
    marked: Any = nn.ParameterDict({"number": nn.Parameter(torch.zeros(()))})
    made = 0
    while made < len(history) and not best.enough():
        marked["number"].data.fill_(made)
        best(marked)
        made += 1
    return history[int(best.weights["number"])], made


def readings(runs: dict[str, dict[int, dict[str, Any]]]) -> dict[str, dict[int, dict[str, Any]]]:
    """Return metrics, share of majority and evaluations made of a task and rate, by way and seed, with what is read."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for way, by_seed in runs.items():
        for seed, one in by_seed.items():
            found.setdefault(way, {})[seed] = one | {"trained": 1.0}
            for name, (of, patience) in READ.items():
                if of == way:
                    metrics, number = kept(one["history"], GLUE[one["task"]].metrics[0], patience)
                    share = number / len(one["history"])
                    found.setdefault(name, {})[seed] = one | {"metrics": metrics, "trained": share}
    return found


def table(found: dict[str, dict[str, Any]]) -> Rows:
    """Return a row for each task, number of training rows, rate and way, with the difference from the base by seed."""
    tables: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
    for group, by_seed in groups(found).items():
        about, _, way = group.rpartition(f", {_rate(group)}, ")
        task = about.split(", ")[0]
        tables.setdefault(f"{about}, {_rate(group)}", {})[way] = {
            seed: one | {"task": task} for seed, one in by_seed.items()
        }
    order = [BASE, *(name for name in ways(0) if name != BASE), *READ]
    rows: Rows = []
    for about, runs in tables.items():
        read = readings(runs)
        rows += [row(about, way, read[way], read.get(BASE, {})) for way in order if way in read]
    return rows


def _rate(group: str) -> str:
    return next(part for part in group.split(", ") if part.startswith("rate "))


def row(about: str, way: str, runs: dict[int, dict[str, Any]], base: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Return a row of the table."""
    task, trained, rate = about.split(", ")
    metric = GLUE[task].metrics[0].name
    values = {seed: one["metrics"][metric] for seed, one in runs.items()}
    both = [value - base[seed]["metrics"][metric] for seed, value in values.items() if seed in base]
    return {
        "task": task,
        "training rows": int(trained.removesuffix(" rows")),
        "rate": rate.removeprefix("rate "),
        "way": way,
        "metric": metric,
        "median": statistics.median(values.values()),
        "mean [95 %]": interval([*values.values()]),
        "standard deviation": statistics.stdev(values.values()) if len(values) > 1 else None,
        "failed": f"{sum(failed(one) for one in runs.values())} of {len(runs)}",
        "difference [95 %]": interval(both) if both and way != BASE else None,
        "seconds": round(statistics.mean(one["seconds"] * one["trained"] for one in runs.values())),
    }


def failed(run: dict[str, Any]) -> bool:
    """Return whether a run is no better than the answer of the most labels (Mosbach et al. 2021)."""
    return bool(run["metrics"]["accuracy"] <= run["choices"]["majority"])


if __name__ == "__main__":
    run(main)

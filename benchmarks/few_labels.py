"""What helps with few labels: a contrastive loss, and each augmentation, beside plain fine-tuning.

    python benchmarks/few_labels.py --data ../shared/data                             # MiniLM on SST-2, three seeds
    python benchmarks/few_labels.py --data ../shared/data --masked runs/mini --noise 0 0.3 --tasks sst2 emotion

As Gunel et al. 2021, table 2, in small: 20, 100 and 1,000 labels, drawn anew for each seed, as many of each class as
can be; standard deviations over seeds. `--noise` is the share of labels that are replaced by another class (their noise
is of texts). The weights are those of all-MiniLM-L6-v2, as in `finetune.py`. All ways have about as many updates;
self-training has a teacher before, and more rows than labels, up to ten times as many updates. The last weights count,
measured on the validation table. What needs a model that is not named is left out. What is finished is not done again:
stop it at any moment and run the same command.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from few_labels_runs import few_updates, write_tables
from minilm import Rows, groups, named, parser, run, settled, study
from minilm_runs import Learning

from genus.jobs import Job
from genus.tasks.augment.back_translation import BackTranslation
from genus.tasks.augment.masked_replacement import MaskedReplacement
from genus.tasks.augment.mixup import Mixup
from genus.tasks.augment.random_edits import RandomEdits
from genus.tasks.augment.self_training import SelfTraining
from genus.tasks.classification import Classification, ContrastiveClassification
from genus.tasks.glue import GLUE

if TYPE_CHECKING:
    import argparse

    from genus.tasks import Task
    from genus.tasks.augment import Augmentation

RESULTS = Path(__file__).parent / "results" / "few-labels.json"
TASKS = {"sst2": ("glue/sst2", GLUE["sst2"]), "emotion": ("emotion", Classification())}
COPIES = 4
"""Of each row by models that change texts, as those of words of tables of 5,000 rows."""


def main() -> None:
    options = parsed()
    told = {name: getattr(options, name) for name in ("tasks", "labels", "noise", "seeds", "measured", "threads")}
    study(options, plan(options), told, table)


def parsed() -> argparse.Namespace:
    """Return the options."""
    made = parser(__doc__ or "", RESULTS, TASKS, 3)
    made.set_defaults(tasks=["sst2"])
    made.add_argument("--labels", nargs="+", type=int, default=[20, 100, 1_000])
    made.add_argument("--noise", nargs="+", type=float, default=[0.0])
    made.add_argument("--ways", nargs="+", help="some of the rows of the table, by default all that can be")
    made.add_argument("--measured", type=int, default=872, help="rows that are measured on, at most")
    made.add_argument("--synonyms", default="", help="file of synonyms, for random edits")
    made.add_argument("--masked", help="folder of a masked language model")
    made.add_argument("--there", help="folder of a model that translates the texts")
    made.add_argument("--back", help="folder of a model that translates them back")
    return settled(made)


def ways(options: argparse.Namespace, rows: int, tables: Path, seed: int) -> dict[str, tuple[Augmentation | None, int]]:
    """Return each way by name, and how many rows it makes of each."""
    edits = RandomEdits(synonyms=options.synonyms, seed=seed)
    found: dict[str, tuple[Augmentation | None, int]] = {
        "none": (None, 0),
        "contrastive": (None, 0),
        "random-edits": (edits, edits.number_of_copies(rows)),
        "mixup": (Mixup(seed=seed), 0),
        "self-training": (SelfTraining(unlabeled=str(tables / "unlabeled.jsonl"), seed=seed), 0),
    }
    if options.masked:
        found["masked-replacement"] = (MaskedReplacement(model=options.masked, copies=COPIES, seed=seed), COPIES)
    if options.there and options.back:
        two = BackTranslation(there=options.there, back=options.back, copies=COPIES, seed=seed)
        found["back-translation"] = (two, COPIES)
    if unknown := sorted({*(options.ways or found)} - found.keys()):
        sys.exit(f"--ways: there is no {unknown[0]!r}, or its model is not named; there are {', '.join(found)}")
    return {name: one for name, one in found.items() if name in (options.ways or found)}


def plan(options: argparse.Namespace) -> dict[str, Job]:
    """Return all jobs by name, and write their tables."""
    jobs = {}
    for seed in range(options.seeds):
        for name in options.tasks:
            place, plain = TASKS[name]
            for labels in options.labels:
                for noise in options.noise:
                    about = f"{name}, {labels} labels, noise {noise:g}"
                    tables = options.out / "tables" / f"{about}, seed {seed}"
                    write_tables(options.data / place, tables, plain, labels, noise, seed, options.measured)
                    for way, (choice, copies) in ways(options, labels, tables, seed).items():
                        task = contrastive(plain) if way == "contrastive" else plain
                        name_of_job = named(about, way, seed=seed)
                        folder = options.out / name_of_job
                        tuned = few_updates(labels, copies)
                        work = Learning(task, tables, options.model, folder, seed, tuned, options.precision, choice)
                        told = {
                            "task": task.written(),
                            "augmentation": None if choice is None else choice.written(),
                            "labels": labels,
                            "noise": noise,
                            "seed": seed,
                            "measured": options.measured,
                            "precision": options.precision,
                        }
                        cost = labels * 5.0 if way == "self-training" else max(labels, 100)
                        jobs[name_of_job] = Job(name_of_job, work, folder / "result.json", told, cost)
    return jobs


def contrastive(plain: Task) -> Task:
    """Return the task with a contrastive loss, whose other choices are the same."""
    return ContrastiveClassification(texts=plain.texts, label=plain.label, metrics=plain.metrics)


def table(found: dict[str, dict[str, Any]]) -> Rows:
    """Return a row for each way with mean and standard deviation over seeds."""
    rows = []
    for name, runs in groups(found).items():
        metric = next(iter(next(iter(runs.values()))["metrics"]))
        values = [run["metrics"][metric] for run in runs.values()]
        made, seconds = (round(statistics.mean(run[one] for run in runs.values())) for one in ("made", "seconds"))
        rows.append(
            {
                "task, labels, noise, way": name,
                "metric": metric,
                "mean": statistics.mean(values),
                "standard deviation": statistics.stdev(values) if len(values) > 1 else None,
                "seeds": len(runs),
                "rows made": made,
                "seconds": seconds,
            }
        )
    return rows


if __name__ == "__main__":
    run(main)

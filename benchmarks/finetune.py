"""Fine-tuning beside `transformers.Trainer`: the same weights, examples, updates and rates; scores and seconds.

    python benchmarks/finetune.py --data ../shared/data                     # MiniLM on eight tasks, three seeds each
    python benchmarks/finetune.py --data ../shared/data --tasks rte cola --seeds 1            # a piece of it
    python benchmarks/finetune.py --data ../shared/data --tasks sst2 --rows 5000 --seeds 1   # a smaller one

The weights are those of all-MiniLM-L6-v2, as `minilm.py` says. Both sides get the same token ids and labels, in batches
of as many examples, for as many updates with AdamW, warm-up over a tenth of them and linear decay, dropout as the class
has it; ours packed in rows, theirs padded, by Trainer as it is by default (float32, padded to the longest of a batch)
and at its best on this machine (bfloat16 where the processor has it, texts of alike length together). The last weights
count on both sides, measured by one code. Reading, tokenization and evaluation are not in the seconds. One contender
after the other, in a process of its own; measure on an idle machine. What is finished is not done again, and results of
earlier commands stand beside: stop it at any moment and run the same command, or make it in pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from finetune_runs import Contender, Tuned, Tuning
from minilm import MODEL, Rows, add_rows, groups, named, parser, prepare, run, settled, study

from genus.evaluate.interval import interval
from genus.jobs import Job
from genus.tasks.classification import Classification
from genus.tasks.glue import GLUE
from genus.tasks.named import NAMED

if TYPE_CHECKING:
    import argparse

    from genus.tasks import Task

RESULTS = Path(__file__).parent / "results" / "finetune.json"
NAMES: dict[Contender, str] = {"genus": "genus", "trainer": "Trainer", "trainer-best": "Trainer at its best"}
PUBLISHED = {"sst2": 0.915, "cola": 0.475, "rte": 0.688, "mrpc": 0.889}
"""Development scores of MiniLM-L6xH384, before it was trained on pairs of sentences (README of minilm, microsoft/unilm:
neither rates and epochs nor which score of MRPC is told)."""


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
    """Seconds of a training row of ours, about, for the time left only."""


TASKS: dict[str, Measured] = {
    "rte": Measured(GLUE["rte"], "glue/rte", Tuned(epochs=5, lr=5e-5), cost=0.35),
    "mrpc": Measured(GLUE["mrpc"], "glue/mrpc", Tuned(epochs=4, lr=5e-5), cost=0.22),
    "stsb": Measured(GLUE["stsb"], "glue/stsb", Tuned(epochs=4, lr=5e-5), cost=0.11),
    "cola": Measured(GLUE["cola"], "glue/cola", Tuned(epochs=4, lr=5e-5), cost=0.06),
    "conll2003": Measured(NAMED["conll2003"].task, "conll2003", Tuned(epochs=4, lr=1e-4), rows=2_800, cost=0.08),
    "sst2": Measured(GLUE["sst2"], "glue/sst2", Tuned(epochs=2, lr=5e-5), rows=20_000, cost=0.03),
    "ag_news": Measured(
        Classification(texts=("text",), label="label"), "ag_news", Tuned(epochs=2, lr=5e-5), rows=8_000, cost=0.1
    ),
    "squad": Measured(NAMED["squad"].task, "squad_v1.1", Tuned(epochs=2, lr=1e-4, max_length=384, batch=16), cost=0.36),
}
"""Rates and epochs are ours, for all contenders; CoNLL-2003 is a fifth of its sentences, SQuAD the subset that is
there. Scores are of the validation table, or of the test where validation is held out of training."""


def main() -> None:
    options = parsed()
    told = {name: getattr(options, name) for name in ("tasks", "contenders", "rows", "measured", "seeds", "threads")}
    study(options, plan(options), told | {"model": MODEL}, table)


def parsed() -> argparse.Namespace:
    """Return the options, with the tables written where rows are drawn."""
    made = parser(__doc__ or "", RESULTS, TASKS, 3)
    add_rows(made)
    made.add_argument("--contenders", nargs="+", choices=get_args(Contender), default=list(get_args(Contender)))
    options = settled(made)
    prepare(options, {name: (one.folder, one.rows) for name, one in TASKS.items()})
    return options


def plan(options: argparse.Namespace) -> dict[str, Job]:
    """Return all jobs by name: by seed, then by task, the contenders one after the other."""
    jobs = {}
    for seed in range(options.seeds):
        for name in options.tasks:
            for contender in options.contenders:
                one, rows = TASKS[name], options.drawn[name]
                told = named(name, f"{rows} rows", NAMES[contender], seed=seed)
                folder = options.out / told
                work = Tuning(
                    one.task, options.tables[name], options.model, folder, contender, seed, one.tuned, options.precision
                )
                choices = {
                    "task": one.task.written(), "rows": rows, "measured": options.measured, "tuned": one.tuned.told(),
                    "seed": seed, "contender": contender, "precision": options.precision,
                }  # fmt: skip
                cost = one.cost * rows * (1 if contender == "genus" else 3)
                jobs[told] = Job(told, work, folder / "result.json", choices, cost)
    return jobs


def table(found: dict[str, dict[str, Any]]) -> Rows:
    """Return a row for each task, number of training rows and contender."""
    rows: Rows = []
    ours: dict[str, float] = {}
    for group, by_seed in sorted(groups(found).items(), key=lambda one: [*TASKS].index(one[0].split(", ")[0])):
        name, trained, contender = group.split(", ")
        runs = [*by_seed.values()]
        seconds = sum(run["seconds"] for run in runs) / len(runs)
        if contender == NAMES["genus"]:
            ours[name + trained] = seconds
        metric = next(iter(runs[0]["metrics"]))
        rows.append(
            {
                "task": name,
                "training rows": int(trained.removesuffix(" rows")),
                "contender": contender,
                "metric": metric,
                "mean [95 %]": interval([run["metrics"][metric] for run in runs]),
                "seeds": len(runs),
                "seconds": round(seconds),
                "times genus": f"{seconds / ours[name + trained]:.2f}" if name + trained in ours else None,
                "MiniLM's README": f"{PUBLISHED[name]:.3f}" if name in PUBLISHED else None,
            }
        )
    return rows


if __name__ == "__main__":
    run(main)

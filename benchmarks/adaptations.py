"""What training few parameters costs and gives: parameters, memory, seconds and scores on MRPC, CoLA and SST-2.

    python benchmarks/adaptations.py --data ../shared/data                              # all kinds, three seeds
    python benchmarks/adaptations.py --data ../shared/data --kinds full "LoRA, rank 8" --tasks mrpc --seeds 1

Each kind has one rate for all tasks, not tuned here: of adapters that of Houlsby et al. 2019's example (README of
adapter-bert), of LoRA that of its authors' script (roberta_base_mrpc.sh), of biases the default of BitFit's script, of
prefixes that of peft's notebook; those of prompts, last layers and the head alone are ours. Epochs, updates, warm-up
and decay are the same for all; few parameters may need more epochs (`--epochs`). Peak memory is that of 3 updates of 32
texts of 128 tokens in float32, less what the process needed before the first, so that weights and libraries are not
counted. Beside the table stands a figure as Houlsby et al. 2019, figure 3: what is lost of the score of training all
parameters, the mean over tasks, against the parameters that are trained. The weights are those of all-MiniLM-L6-v2, as
`minilm.py` says. What is finished is not done again: stop it at any moment and run the same command, or make it in
pieces.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptations_figure import Point, figure
from adaptations_runs import Memory
from minilm import MODEL, Rows, add_rows, groups, named, parser, prepare, run, settled, study
from minilm_runs import Learning, settings

from genus.adapt.adapters import Adapters
from genus.adapt.biases import Biases
from genus.adapt.last_layers import LastLayers
from genus.adapt.lora import LoRA
from genus.adapt.prefix_tuning import PrefixTuning
from genus.adapt.prompt_tuning import PromptTuning
from genus.evaluate.interval import interval
from genus.files import write_text
from genus.jobs import Job
from genus.tasks.glue import GLUE

if TYPE_CHECKING:
    import argparse

    from genus.adapt import Adaptation

RESULTS = Path(__file__).parent / "results" / "adaptations.json"
TASKS: dict[str, int | None] = {"mrpc": None, "cola": None, "sst2": 4_000}
"""Tasks with the rows that are drawn of their training table; None: all."""
EPOCHS = 5
"""As in the adapter's example (README of adapter-bert)."""


@dataclass(frozen=True)
class Kind:
    """A row of the table."""

    adaptation: Adaptation | None
    lr: float
    family: str = ""
    """Rows that differ in their size alone, and are joined in the figure."""


FULL = "full"
HOULSBY, PFEIFFER, LORA, LAST = "adapters", "adapters (Pfeiffer)", "LoRA", "last layers"
KINDS: dict[str, Kind] = {
    FULL: Kind(None, 5e-5, LAST),
    "adapters, 64": Kind(Adapters(size=64), 3e-4, HOULSBY),
    "adapters, 8": Kind(Adapters(size=8), 3e-4, HOULSBY),
    "adapters (Pfeiffer), 64": Kind(Adapters(size=64, after="feedforward", norms=False), 3e-4, PFEIFFER),
    "adapters (Pfeiffer), 8": Kind(Adapters(size=8, after="feedforward", norms=False), 3e-4, PFEIFFER),
    "LoRA, rank 8": Kind(LoRA(rank=8, alpha=16), 4e-4, LORA),
    "LoRA, rank 1": Kind(LoRA(rank=1, alpha=16), 4e-4, LORA),
    "prefix of 20": Kind(PrefixTuning(length=20, projection=None), 1e-2),
    "prompt of 20": Kind(PromptTuning(length=20), 1e-2),
    "biases": Kind(Biases(), 1e-3),
    "last 3 layers": Kind(LastLayers(layers=3), 5e-5, LAST),
    "last layer": Kind(LastLayers(layers=1), 5e-5, LAST),
    "head": Kind(LastLayers(layers=0), 1e-3, LAST),
}


def main() -> None:
    options = parsed()
    asked = ("tasks", "rows", "measured", "seeds", "epochs", "kinds", "threads")
    told = {name: getattr(options, name) for name in asked} | {"model": MODEL}
    study(options, plan(options), told, table, lambda runs: draw(options.results.with_suffix(".svg"), runs))


def parsed() -> argparse.Namespace:
    """Return the options, with the tables written where rows are drawn."""
    made = parser(__doc__ or "", RESULTS, TASKS, 3)
    add_rows(made)
    made.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS])
    made.add_argument("--epochs", type=float, default=EPOCHS)
    options = settled(made)
    prepare(options, {name: (f"glue/{name}", rows) for name, rows in TASKS.items()})
    return options


def plan(options: argparse.Namespace) -> dict[str, Job]:
    """Return all jobs by name: memory of every kind, then by seed, task and kind."""
    jobs = {}
    for name in options.kinds:
        told, adaptation = f"memory, {name}", KINDS[name].adaptation
        choices: dict[str, Any] = {"adaptation": None if adaptation is None else adaptation.written()}
        jobs[told] = Job(told, Memory(options.model, adaptation), options.out / told / "result.json", choices, 10)
    for seed in range(options.seeds):
        for task in options.tasks:
            for name in options.kinds:
                kind, rows = KINDS[name], options.drawn[task]
                tuned = settings(kind.lr, options.epochs, adaptation=kind.adaptation)
                told = named(task, f"{rows} rows", name, seed=seed)
                folder = options.out / told
                work = Learning(GLUE[task], options.tables[task], options.model, folder, seed, tuned, options.precision)
                choices = {
                    "task": GLUE[task].written(), "rows": rows, "measured": options.measured, "seed": seed,
                    "settings": tuned.written(), "precision": options.precision,
                }  # fmt: skip
                jobs[told] = Job(told, work, folder / "result.json", choices, rows * options.epochs / 50)
    return jobs


def scores(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, dict[int, dict[str, Any]]]]:
    """Return the runs by kind, then by task with its rows, then by seed."""
    by_kind: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
    for group, runs in groups(found).items():
        task, rows, *kind = group.split(", ")
        if task in TASKS:
            by_kind.setdefault(", ".join(kind), {})[f"{task}, {rows}"] = runs
    return by_kind


def table(found: dict[str, dict[str, Any]]) -> Rows:
    """Return a row for each kind: what it trains, its memory, and seconds and score of every task."""
    by_kind, rows = scores(found), []
    tasks = sorted(
        {task for one in by_kind.values() for task in one}, key=lambda one: [*TASKS].index(one.split(",")[0])
    )
    for kind in KINDS:
        memory = found.get(f"memory, {kind}")
        if memory is None and kind not in by_kind:
            continue
        row: dict[str, Any] = {"kind": kind, "rate": f"{KINDS[kind].lr:g}"}
        if memory is not None:
            row |= {"trained parameters": memory["trained"], "peak memory, MB": round(memory["peak"])}
        for task in tasks:
            runs = [*by_kind.get(kind, {}).get(task, {}).values()]
            metric = GLUE[task.split(",")[0]].metrics[0].name
            row[f"{task}, {metric} [95 %]"] = interval([run["metrics"][metric] for run in runs]) if runs else None
            row[f"{task}, seconds"] = round(statistics.mean(run["seconds"] for run in runs)) if runs else None
        rows.append(row)
    return rows


def draw(path: Path, found: dict[str, dict[str, Any]]) -> None:
    """Write the figure of the kinds that have scores on the same tasks and seeds as training all, if there are two."""
    by_kind = scores(found)
    full, points = by_kind.get(FULL, {}), []
    for name, kind in KINDS.items():
        memory, runs = found.get(f"memory, {name}"), by_kind.get(name, {})
        if memory is None or not full or any({*of} - {*runs.get(task, {})} for task, of in full.items()):
            continue
        lost = [
            statistics.mean(_score(runs[task][seed], task) - _score(of[seed], task) for task, of in full.items())
            for seed in set.intersection(*({*of} for of in full.values()))
        ]
        points.append(Point(name, kind.family, memory["trained"], interval([100 * one for one in lost])))
    if len(points) > 1:
        write_text(path, figure(points, len(full)))


def _score(run: dict[str, Any], task: str) -> float:
    return float(run["metrics"][GLUE[task.split(",")[0]].metrics[0].name])


if __name__ == "__main__":
    run(main)

"""Suites of tasks on the command line, and what papers report beside one's own results."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genus.cli.output import columns, document
from genus.errors import UsageError

if TYPE_CHECKING:
    from genus.recipe import Recipe
    from genus.tasks.start import Start
    from genus.tasks.suite import Suite, SuiteReport
    from genus.tasks.sweep import Values
    from genus.train.run import Run


def settled(row: "Recipe", task: str, settings: Sequence[str]) -> "Recipe":
    """Return the recipe with settings applied to it, and before them the sequence length of a dataset's papers."""
    from dataclasses import replace

    from genus import catalog
    from genus.tasks.named import NAMED

    usual = NAMED[task].max_length if task in NAMED else None
    if usual is not None:
        length = min(usual, row.model.max_length or usual)
        row = replace(row, finetuning=replace(row.finetuning, max_length=length))
    return catalog.overridden(row, settings)


def refuse(task: str, *of_one: object) -> None:
    """Refuse options that are of a single task.

    Raises:
        UsageError: one is given.
    """
    if any(of_one):
        raise UsageError(f"--task {task}: columns, metrics, tables, passes, few labels, teachers and noise are of one "
                         "task; fine-tune on it by name")  # fmt: skip


def run_all(
    start: "Start",
    suite: "Suite",
    data: Path,
    out: Path,
    seeds: Sequence[int],
    run: "Run",
    values: "Values",
    from_mnli: bool,
    as_json: bool,
) -> None:
    """Fine-tune on all tasks of a suite and print their table, or one JSON document."""
    from genus.tasks.suite import run_suite

    report = run_suite(start, suite, data, out, seeds=seeds, run=run, values=values, from_intermediate=from_mnli)
    if as_json:
        document(report.to_json())
        return
    print(columns(["task", "split", "metric", "median", f"mean of {len(seeds)} [95 % interval]"], rows(report)))
    if (overall := report.overall()) is not None:
        left_out = [name for name in report.left_out if name in report.reports]
        print(f"mean over tasks of the first metric: {overall}{f', without {left_out[0]}' if left_out else ''}")
    if values:
        print("settings were chosen on the validation rows: " + "; ".join(
            f"{name} {', '.join(f'{path}={value}' for path, value in best.items())}"
            for name, best in report.swept.items()
        ))  # fmt: skip
    for name, why in report.missing.items():
        print(f"missing: {name}, {why}")
    published(*report.reports)


def rows(report: "SuiteReport") -> list[list[str]]:
    """Return the cells of a suite's table, a row for each metric of each split of a task."""
    from genus.evaluate.interval import interval

    found = []
    for name, one in report.reports.items():
        for split in one.trials[0].metrics:
            for metric, values in report.scores(name, split).items():
                told = [f"{statistics.median(values):.4f}", str(interval(values))] if values else ["undefined"] * 2
                found.append([name, split, metric, *told])
    return found


def published(*tasks: str) -> None:
    """Print what papers report on the tasks, in percent, as they have it; nothing where there is nothing."""
    from genus.tasks.published import on

    found = on(*tasks)
    if not found:
        return
    shown = [task for task in tasks if any(task in one.scores for one in found)]
    wheres = list(dict.fromkeys(one.where for one in found))
    print("\nas papers report it, in percent")
    cells = [[*(one.scores.get(task, "") for task in shown), f"({wheres.index(one.where) + 1})"] for one in found]
    print(columns(["model", *shown, "where"], [[one.model, *row] for one, row in zip(found, cells, strict=True)]))
    for number, where in enumerate(wheres, 1):
        print(f"({number}) {where}")

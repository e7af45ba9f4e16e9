"""A suite of tasks in one command, as GLUE: each is fine-tuned by itself, and all are reported together."""

from __future__ import annotations

import re
import statistics
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from genus.errors import GenusError, UsageError, say
from genus.evaluate.interval import Interval, interval
from genus.export.folder import load
from genus.files import write_json
from genus.tasks.dataset import SPLITS, Files, named_as
from genus.tasks.finetune import finetune
from genus.tasks.glue import GLUE, OFFICIAL
from genus.tasks.notices import Notices
from genus.tasks.sweep import sweep
from genus.tasks.table import rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from genus.recipe import FineTuning
    from genus.tasks import Task
    from genus.tasks.report import Report
    from genus.tasks.start import Start
    from genus.tasks.sweep import Values
    from genus.train.run import Run

INTERMEDIATE = "mnli"
MISMATCHED = "mismatched"
"""MNLI's second validation table, whose scores are reported as those of a test."""


@dataclass(frozen=True)
class Suite:
    """Tasks that lie in a folder each and are reported together."""

    tasks: Mapping[str, Task]
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """How tables of another kind have the columns, by task."""
    helped: tuple[str, ...] = ()
    """Small tasks that may start from the model of `INTERMEDIATE`."""
    left_out: tuple[str, ...] = ()
    """Tasks that do not count in the mean over all."""


SUITES = {"glue": Suite(GLUE, OFFICIAL, helped=("rte", "mrpc", "stsb"), left_out=("wnli",))}
"""Liu et al. 2019, section 5.1: RTE, STS and MRPC start from the MNLI model. Devlin et al. 2018, table 1: no WNLI."""


@dataclass(frozen=True, slots=True)
class Found:
    """A task of a suite, and its tables."""

    task: Task
    files: Files


@dataclass(frozen=True)
class SuiteReport:
    """The reports of a suite's tasks by name, and why others are missing."""

    reports: Mapping[str, Report]
    missing: Mapping[str, str]
    swept: Mapping[str, dict[str, str]]
    """The best settings of a sweep, by task."""
    left_out: tuple[str, ...]

    def scores(self, task: str, split: str = "validation") -> dict[str, list[float]]:
        """Return the defined values of a task's metrics, one for each seed."""
        trials = [one.metrics[split] for one in self.reports[task].trials if split in one.metrics]
        names = trials[0] if trials else {}
        return {name: [value for one in trials if (value := one[name]) is not None] for name in names}

    def overall(self) -> Interval | None:
        """Return the mean over tasks of each one's first metric, seed by seed, with its interval over seeds."""
        firsts = [next(iter(self.scores(name).values())) for name in self.reports if name not in self.left_out]
        if not firsts or len({len(values) for values in firsts}) > 1 or not firsts[0]:
            return None
        return interval([statistics.fmean(several) for several in zip(*firsts, strict=True)])

    def to_json(self) -> dict[str, Any]:
        """Return the content of the suite's `report.json`."""
        overall = self.overall()
        return {
            "tasks": {
                name: {
                    split: {
                        metric: {"median": statistics.median(values), "each": values} | asdict(interval(values))
                        for metric, values in self.scores(name, split).items()
                        if values
                    }
                    for split in report.trials[0].metrics
                }
                | {"settings": report.settings.written(), "swept": self.swept.get(name), "initial": report.initial}
                for name, report in self.reports.items()
            },
            "missing": dict(self.missing),
            "mean_of_tasks": None if overall is None else asdict(overall),
            "left_out_of_mean": [name for name in self.left_out if name in self.reports],
        }


def find(suite: Suite, folder: Path) -> tuple[dict[str, Found], dict[str, str]]:
    """Return the tasks of a suite that a folder holds, and why others are missing.

    A folder of a task has its name, in any case and with any marks (`SST-2`); tables are found as `Files.find` does.

    Raises:
        UsageError: it holds none of them.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: is no folder; a suite is a folder with one for each task: {', '.join(suite.tasks)}"
        )
    folders = {re.sub("[^a-z0-9]", "", path.name.lower()): path for path in sorted(folder.iterdir()) if path.is_dir()}
    found, missing = {}, {}
    for name, task in suite.tasks.items():
        if name not in folders:
            missing[name] = "no folder of that name"
            continue
        try:
            files = _files(folders[name])
        except UsageError as error:
            missing[name] = str(error)
        else:
            found[name] = Found(_as_in(task, files.train, suite.columns.get(name, {})), files)
    if not found:
        raise UsageError(f"{folder}: holds none of {', '.join(suite.tasks)}: {next(iter(missing.values()))}")
    return found, missing


def run_suite(
    start: Start,
    suite: Suite,
    data: Path,
    folder: Path,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    run: Run | None = None,
    values: Values | None = None,
    from_intermediate: bool = False,
) -> SuiteReport:
    """Fine-tune on every task of a suite that a folder holds; each has a folder of results, and is not done twice.

    Args:
        start: recipe with the settings of fine-tuning, tokenizer and weights.
        suite: the tasks.
        data: the folder with a folder for each task.
        folder: where results are written: `report.json`, and a folder for each task.
        seeds: distinct seeds.
        run: device, precision and other settings of the run.
        values: settings that are tried first, one seed each; the best in validation are taken, task by task.
        from_intermediate: whether small tasks start from the model of `INTERMEDIATE`.

    Raises:
        GenusError: as `finetune`.
        UsageError: the folder holds none of the tasks, or not the one from which others are to start.
    """
    found, missing = find(suite, data)
    for name, why in missing.items():
        say(f"{name} is missing: {why}")
    if from_intermediate and INTERMEDIATE not in found:
        raise UsageError(f"{data}: holds no {INTERMEDIATE}, from which {', '.join(suite.helped)} are to start: "
                         f"{missing[INTERMEDIATE]}")  # fmt: skip
    first = [name for name in found if name == INTERMEDIATE] if from_intermediate else []
    reports, swept = {}, {}
    for name in dict.fromkeys([*first, *found]):
        say(f"{name}: {found[name].files.train.parent}")
        own = start
        if from_intermediate and name in suite.helped:
            own = replace(start, learner=load(folder / INTERMEDIATE / "model").learner)
        settings: FineTuning | None = None
        if values:
            best = sweep(
                own, found[name].task, found[name].files, folder / name / "sweep", values, seed=seeds[0], run=run
            )
            settings, swept[name] = best.finetuning, best.best
        task, files = found[name].task, found[name].files
        reports[name] = finetune(own, task, files, folder / name, settings=settings, seeds=seeds, run=run)
    made = SuiteReport({name: reports[name] for name in found}, missing, swept, suite.left_out)
    write_json(folder / "report.json", made.to_json())
    return made


def _files(folder: Path) -> Files:
    """Return a task's tables; of two validation tables, matched and mismatched, the second one takes the test's place.

    Raises:
        UsageError: there is no training table, or more than one for a split.
    """
    second = [path for path in named_as(folder, SPLITS["validation"]) if MISMATCHED in path.name]
    if not second:
        return Files.find(folder)
    (train,) = named_as(folder, SPLITS["train"]) or (None,)
    matched = [path for path in named_as(folder, SPLITS["validation"]) if path not in second]
    if train is None or len(matched) != 1 or len(second) != 1:
        raise UsageError(f"{folder}: expected one training table, and one for each of matched and mismatched")
    return Files(train, matched[0], second[0])


def _as_in(task: Task, path: Path, others: Mapping[str, Any]) -> Task:
    """Return the task with the other columns, where the table has those and not the task's own.

    Raises:
        GenusError: the table cannot be read.
    """
    _, row = next(iter(rows(path, Notices(), ())), (0, {}))
    if not row:
        raise GenusError(f"{path}: holds no rows")
    changed = task.overlay(others)
    own, other = ((*one.columns, *one.label_columns) for one in (task, changed))
    return changed if others and not {*own} <= row.keys() and {*other} <= row.keys() else task

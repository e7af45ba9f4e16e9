"""Hyperparameter sweep before fine-tuning: every combination of some settings once, the best one in validation wins."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genus.errors import UsageError, near, say
from genus.files import write_json
from genus.tasks.finetune import finetune

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from genus.recipe import FineTuning, Recipe
    from genus.tasks import Task
    from genus.tasks.augment import Augmentation
    from genus.tasks.dataset import Files
    from genus.tasks.start import Start
    from genus.tasks.teacher import Teacher
    from genus.text.noise import TextNoise
    from genus.train.run import Run

Values = dict[str, tuple[str, ...]]
"""Values to try by the path of a setting, as `--set` takes both."""
LR, BATCH, EPOCHS = "finetuning.optimizer.lr", "finetuning.batch", "finetuning.epochs"
GRIDS: dict[str, Values] = {
    # Devlin et al. 2018, appendix A.3
    "bert": {BATCH: ("16", "32"), LR: ("5e-5", "3e-5", "2e-5"), EPOCHS: ("2", "3", "4")},
    # google-research/bert, README of March 11th, 2020: 4 epochs
    "bert-miniatures": {
        BATCH: ("8", "16", "32", "64", "128"),
        LR: ("3e-4", "1e-4", "5e-5", "3e-5"),
        EPOCHS: ("4",),
    },
    # Liu et al. 2019, appendix, table 10
    "roberta": {BATCH: ("16", "32"), LR: ("1e-5", "2e-5", "3e-5"), EPOCHS: ("10",)},
}
"""The grids that papers searched for each task of GLUE."""


@dataclass(frozen=True, slots=True)
class Swept:
    """The outcome of a sweep."""

    best: dict[str, str]
    """Settings of the best combination."""
    finetuning: FineTuning


def grid(asked: Sequence[str]) -> Values:
    """Return the values that `--sweep` asks for: `path=a,b,c`, or the name of a paper's grid.

    Raises:
        UsageError: neither of both, or a setting that is no hyperparameter of fine-tuning.
    """
    found: Values = {}
    for one in asked:
        path, separator, values = one.partition("=")
        if not separator and one in GRIDS:
            found |= GRIDS[one]
        elif separator and path.strip().startswith("finetuning.") and all(map(str.strip, values.split(","))):
            found[path.strip()] = tuple(value.strip() for value in values.split(","))
        else:
            raise UsageError(f"--sweep {one:.60}: expected finetuning.NAME=a,b,c, or a paper's grid: "
                             f"{', '.join(GRIDS)}.{near(one, list(GRIDS))}")  # fmt: skip
    return found


def combinations(recipe: Recipe, values: Mapping[str, Sequence[str]]) -> dict[str, tuple[dict[str, str], FineTuning]]:
    """Return every combination of the values by a name for its folder: its settings, and what they make.

    Raises:
        UsageError: a value that cannot be.
    """
    found = {}
    for several in itertools.product(*values.values()):
        chosen = dict(zip(values, several, strict=True))
        name = ",".join(f"{path.rpartition('.')[2]}={value}" for path, value in chosen.items())
        found[name] = (chosen, recipe.overrides(dict(chosen)).finetuning)
    return found


def sweep(
    start: Start,
    task: Task,
    files: Files,
    folder: Path,
    values: Values,
    *,
    seed: int = 0,
    run: Run | None = None,
    accumulate: int = 1,
    augmentation: Augmentation | None = None,
    teacher: Teacher | None = None,
    noises: Mapping[str, TextNoise] | None = None,
) -> Swept:
    """Fine-tune once with every combination of settings; return the best by the first metric in validation.

    Of equal ones the earlier wins. The folder receives `sweep.json` and a folder of results for each combination, but
    no model; what has a result is not run again.

    Raises:
        GenusError: as `finetune`.
        UsageError: as `finetune`; a value that cannot be.
    """
    tried = combinations(start.recipe, values)
    ranked: list[tuple[float, str]] = []
    told = {}
    main = task.metrics
    for number, (name, (_, settings)) in enumerate(tried.items(), 1):
        say(f"sweep, {number} of {len(tried)}: {name}")
        report = finetune(
            start,
            task,
            files,
            folder / name,
            settings=settings,
            seeds=(seed,),
            run=run,
            accumulate=accumulate,
            publish=False,
            augmentation=augmentation,
            teacher=teacher,
            noises=noises,
        )
        main = report.task.metrics
        ranked.append((report.best.rank(main[0]), name))
        told[name] = report.best.metrics["validation"]
    best = max(ranked, key=lambda one: one[0])[1]
    write_json(folder / "sweep.json", {"best": best, "validation": told})
    score = told[best][main[0].name]
    say(f"sweep: {best} is best, {main[0].name} {'undefined' if score is None else format(score, '.4f')} in validation")
    return Swept(*tried[best])

"""Fine-tuning with few labels: an experiment whose training rows, or whose loss, an augmentation changes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from genus.errors import UsageError, say
from genus.export.adapted.folder import load
from genus.tasks.augment import FewLabels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.export.folder import LoadedModel
    from genus.tasks import Task
    from genus.tasks.augment import Augmentation
    from genus.tasks.dataset import LabeledRow
    from genus.tasks.study import Experiment


def check_augmentation(choice: Augmentation, task: Task, *, taught: bool = False) -> None:
    """Refuse tasks whose labels do not stay right for another text, and what is `taught` by a teacher.

    Raises:
        UsageError: the task is one of them, or there is a teacher.
    """
    if taught:
        raise UsageError(f"augmentation: {type(choice).__name__} makes rows or a loss of its own, which no teacher "
                         "answers; leave out --augment or --teacher")  # fmt: skip
    if not task.augmentable:
        raise UsageError(f"augmentation: {type(choice).__name__} is for the classification of texts or pairs, and not "
                         f"for {type(task).__name__}")  # fmt: skip


def augmented(choice: Augmentation, experiment: Experiment, seeds: Sequence[int]) -> Experiment:
    """Return the experiment with the further training rows of an augmentation, and with its loss; say how many.

    Raises:
        GenusError: what the augmentation needs cannot be used.
        UsageError: it does not fit the task's loss, or a choice is missing.
    """
    train = experiment.splits["train"]

    def teach(further: Sequence[LabeledRow], name: str) -> LoadedModel:
        folder = experiment.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        rows = replace(train, rows=[*train.rows, *further])
        replace(experiment, folder=folder, splits=experiment.splits | {"train": rows}, publish=True).trials(seeds)
        return load(folder / "model")

    choice.objective(experiment.objective, 0)  # refused before anything is made
    kind, few = type(choice).__name__, len(train.rows)
    split, settings = choice.split(train, FewLabels(train.rows, experiment.task, teach)), experiment.recipe.finetuning
    objective = choice.objective(experiment.objective, math.ceil(settings.epochs * split.examples))
    if made := len(split.rows) - few:
        say(f"{kind}: {made:,} further training rows beside the {few:,} of the table")
    elif objective == experiment.objective:
        say(f"{kind}: no training row is made, and the {few:,} that there are are learned as they are")
    else:
        say(f"{kind}: the {few:,} training rows are learned by another loss")
    recipe = experiment.start.fine_tuned(objective, settings)
    return replace(experiment, recipe=recipe, splits=experiment.splits | {"train": split}, augmentation=choice)

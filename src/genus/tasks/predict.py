"""Answers of a fine-tuned model to new texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genus.errors import GenusError
from genus.objectives.fine_tuned import FineTuned
from genus.tasks import Task, task_of
from genus.tasks.answer import Answer, answers, measure, outputs
from genus.tasks.dataset import Row
from genus.tasks.splits import Split
from genus.train.parallel import find_device
from genus.train.run import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.export.hf import Imported
    from genus.tasks.report import Metrics


def objective_of(model: Imported) -> FineTuned:
    """Return what a model was fine-tuned for.

    Raises:
        GenusError: it was not.
    """
    for objective in model.recipe.objectives:
        if isinstance(objective, FineTuned) and objective.name in model.learner.heads:
            return objective
    raise GenusError(f"{model.recipe.name}: this model was not fine-tuned; run `genus finetune` first")


def predict(model: Imported, texts: Sequence[tuple[str, ...]], run: Run | None = None) -> list[Answer]:
    """Return the answer to every single or paired text, or to the words of each; long ones are cut as in training.

    Raises:
        GenusError: the model was not fine-tuned.
    """
    rows = [Row(number, each, None) for number, each in enumerate(texts, 1)]
    return score(model, task_of(objective_of(model)), Split(Path(), rows), run)[0]


def score(model: Imported, task: Task, split: Split, run: Run | None = None) -> tuple[list[Answer], Metrics]:
    """Return the answers on a table, and the task's metrics on the rows that have a label, none where no row has one.

    Raises:
        GenusError: the model was not fine-tuned, or a label does not occur in its training.
    """
    objective = objective_of(model)
    encoded = split.encode(task, model.tokenizer, objective, model.recipe.finetuning.max_length)
    run = run or Run()
    model.learner.to(find_device(run.device))
    found = outputs(model.learner, encoded, run.precision)
    explained = answers(objective, encoded, found)
    labeled = any(row.label is not None for row in split.rows)
    return explained, measure(task.metrics, objective, encoded, found) if labeled else {}

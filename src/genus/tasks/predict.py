"""Answers of a fine-tuned model to new texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.errors import GenusError
from genus.objectives import device_of, on
from genus.objectives.supervised import FineTuned
from genus.tasks import task_of
from genus.tasks.answer import Answer, answers, measure, outputs
from genus.tasks.dataset import LabeledRow
from genus.train.world import find_device

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.export.folder import LoadedModel
    from genus.tasks import Task
    from genus.tasks.report import Metrics
    from genus.train.run import Run


def objective_of(model: LoadedModel) -> FineTuned:
    """Return what a model was fine-tuned for.

    Raises:
        GenusError: it was not.
    """
    for objective in model.recipe.objectives:
        if isinstance(objective, FineTuned) and objective.name in model.learner.heads:
            return objective
    raise GenusError(f"{model.recipe.name}: this model was not fine-tuned; run `genus finetune` first")


def predict(model: LoadedModel, texts: Sequence[tuple[str, ...]], run: Run | None = None) -> list[Answer]:
    """Return the answer to every single or paired text, or to the words of each; long ones are cut as in training.

    Args:
        model: a fine-tuned model; afterwards it is on the device, and in the mode, where it was.
        texts: what is asked.
        run: on which device and in which precision; None: where the model is, in float32.

    Raises:
        GenusError: the model was not fine-tuned.
    """
    rows = [LabeledRow(number, each, None) for number, each in enumerate(texts, 1)]
    return score(model, task_of(objective_of(model)), rows, run)[0]


def score(
    model: LoadedModel, task: Task, rows: Sequence[LabeledRow], run: Run | None = None, path: Path | None = None
) -> tuple[list[Answer], Metrics]:
    """Return the answers to rows, and the task's metrics on those that have a label, none where no row has one.

    Args:
        model: a fine-tuned model; afterwards it is on the device, and in the mode, where it was.
        task: which labels and metrics.
        rows: what is asked.
        run: on which device and in which precision; None: where the model is, in float32.
        path: the table of the rows, which errors name.

    Raises:
        GenusError: the model was not fine-tuned, or a label does not occur in its training.
    """
    objective = objective_of(model)
    encoded = task.encode(model.tokenizer, rows, objective, model.recipe.finetuning.max_length, path)
    device = device_of(model.learner) if run is None else find_device(run.device)
    with on(model.learner, device):
        found = outputs(model.learner, encoded, "float32" if run is None else run.precision)
    labeled = any(row.label is not None for row in rows)
    return answers(objective, encoded, found), measure(task.metrics, objective, encoded, found) if labeled else {}

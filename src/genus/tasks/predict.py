"""Answers of a fine-tuned model to new texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.errors import GenusError
from genus.objectives.sequence import OnSequence
from genus.tasks.answer import Answer, answers, measure, outputs
from genus.tasks.encode import encode
from genus.train.parallel import join
from genus.train.run import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from genus.export.hf import Imported
    from genus.tasks import Task
    from genus.tasks.encode import Encoded
    from genus.tasks.report import Metrics
    from genus.tasks.splits import Split


def objective_of(model: Imported) -> OnSequence:
    """Return what a model was fine-tuned for.

    Raises:
        GenusError: it was not.
    """
    for objective in model.recipe.objectives:
        if isinstance(objective, OnSequence) and objective.name in model.learner.heads:
            return objective
    raise GenusError(f"{model.recipe.name}: this model was not fine-tuned; run `genus finetune` first")


def predict(model: Imported, texts: Sequence[tuple[str, ...]], run: Run | None = None) -> list[Answer]:
    """Return the answer to every single or paired text, in order; long ones are cut as in training.

    Raises:
        GenusError: the model was not fine-tuned.
    """
    objective = objective_of(model)
    labels = np.array([objective.target(None)] * len(texts))
    encoded = encode(model.tokenizer, texts, labels, objective.name, model.recipe.finetuning.max_length)
    return answers(objective, _outputs(model, encoded, run))


def score(model: Imported, task: Task, split: Split, run: Run | None = None) -> tuple[list[Answer], Metrics]:
    """Return the answers on a table, and the task's metrics on the rows that have a label, none where no row has one.

    Raises:
        GenusError: the model was not fine-tuned, or a label does not occur in its training.
    """
    objective = objective_of(model)
    encoded = split.encode(model.tokenizer, objective, model.recipe.finetuning.max_length)
    found = _outputs(model, encoded, run)
    labeled = any(row.label is not None for row in split.rows)
    return answers(objective, found), measure(task.metrics, objective, encoded, found) if labeled else {}


def _outputs(model: Imported, encoded: Encoded, run: Run | None) -> NDArray[np.float32]:
    run = run or Run()
    model.learner.to(join(run.device).device)
    return outputs(model.learner, encoded, run.precision)

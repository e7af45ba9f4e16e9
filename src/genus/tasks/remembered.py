"""The task that a model folder remembers: how its rows are read where nothing else is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.errors import GenusError, UsageError
from genus.export.usage import PREFIX, TASK
from genus.tasks import Task, task_of
from genus.tasks.text_to_text import TextToText

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel
    from genus.objectives.supervised import FineTuned


def remembered(model: LoadedModel) -> Task | None:
    """Return the task that a model was fine-tuned for, as its folder remembers it; None where it does not.

    A folder of others remembers a prefix at most, in its configuration; it is that of the sources.

    Raises:
        GenusError: what it remembers is no task.
    """
    if model.task is None:
        return None
    if "kind" not in model.task:
        return TextToText(prefix=model.task[PREFIX])
    try:
        return Task.from_json(model.task)
    except UsageError as error:
        raise GenusError(f"{TASK}: {error}; remove the file, and say it with options") from None


def usual_task(model: LoadedModel, objective: FineTuned) -> Task:
    """Return the task of a fine-tuned model: the one that it remembers, if that is its objective's; else the usual one.

    Raises:
        GenusError: what it remembers is no task.
    """
    task = remembered(model)
    return task if task is not None and task.learns is type(objective) else task_of(objective)


def told(task: Task, usual: Task, *, columns: bool = True, prefix: bool = True) -> str:
    """Return what a remembered task says otherwise than the usual one of its kind; empty: nothing.

    Args:
        task: the remembered task.
        usual: the usual one.
        columns: whether its columns are told.
        prefix: whether its prefix is told.
    """
    found = []
    if columns and (task.columns, task.label_columns) != (usual.columns, usual.label_columns):
        found.append(f"columns {', '.join(map(repr, task.columns))} and {', '.join(map(repr, task.label_columns))}")
    if prefix and task.source_prefix:
        found.append(f"{task.source_prefix!r} before every source")
    return ", ".join(found)

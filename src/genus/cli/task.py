"""Fine-tuning tasks from command-line options."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from genus.errors import UsageError, near

if TYPE_CHECKING:
    from genus.tasks import Task


def kind_of(task: "Task") -> str:
    """Return the name of a task's kind as `--task` takes it."""
    return type(task).__name__.lower()


def choose(
    name: str,
    texts: Sequence[str] = (),
    label: str | None = None,
    metrics: Sequence[str] = (),
    *,
    choices: Sequence[str] = (),
    symmetric: bool = False,
) -> "Task":
    """Return a task by kind or by the name of a GLUE task, with the given columns and metrics.

    Raises:
        UsageError: the task or a metric is unknown.
    """
    from genus.evaluate.metrics import Metric
    from genus.part import slots_of
    from genus.tasks import Task
    from genus.tasks.glue import GLUE

    kinds: dict[str, Any] = {kind.lower(): part for kind, part in slots_of(Task).items()}  # type: ignore[type-abstract]
    if name not in kinds and name not in GLUE:
        elsewhere = "; what is asked in words is --prompts, programs are `genus evaluate-code`"
        raise UsageError(f"--task: there is no task {name!r}.{near(name, [*kinds, *GLUE])}{elsewhere}")
    known = {part().name: part for part in slots_of(Metric).values()}  # type: ignore[type-abstract]
    for metric in metrics:
        if metric not in known:
            raise UsageError(f"--metric: there is no metric {metric!r}.{near(metric, list(known))}")
    task: Task = GLUE[name] if name in GLUE else kinds[name]()
    changes: dict[str, object] = {}
    if texts:
        changes["texts"] = list(texts)
    if label is not None:
        changes["label"] = label
    if choices:
        changes["choices"] = list(choices)
    if symmetric:
        changes["symmetric"] = True
    if metrics:
        changes["metrics"] = [known[metric].__name__ for metric in metrics]
    return task.overlay(changes)

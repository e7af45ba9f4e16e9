"""Fine-tuning tasks from command-line options."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from genus.errors import UsageError, near

if TYPE_CHECKING:
    from genus.tasks import Task


def kind_of(task: "Task") -> str:
    """Return the name of a task's kind as `--task` takes it."""
    return _spelled(type(task).__name__)


def _spelled(kind: str) -> str:
    """Return the name of a kind in lower case, its words joined by hyphens."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind).lower()


def choose(
    name: str,
    texts: Sequence[str] = (),
    label: str | None = None,
    metrics: Sequence[str] = (),
    *,
    choices: Sequence[str] = (),
    symmetric: bool = False,
    prefix: str | None = None,
    settings: Sequence[str] = (),
    generation: dict[str, Any] | None = None,
) -> "Task":
    """Return a task by kind or by the name of a dataset, with the given columns, metrics and settings.

    A task that writes does it as `generation`, a model folder's own choices, unless a setting says otherwise.

    Raises:
        UsageError: the task, a metric or a setting is unknown.
    """
    from genus.catalog import overridden
    from genus.evaluate.metrics import Metric
    from genus.part import slots_of
    from genus.tasks import Task
    from genus.tasks.named import NAMED

    kinds: dict[str, Any] = {_spelled(kind): part for kind, part in slots_of(Task).items()}  # type: ignore[type-abstract]
    if name not in kinds and name not in NAMED:
        elsewhere = "; what is asked in words is --prompts, programs are `genus evaluate-code`"
        raise UsageError(f"--task: there is no task {name!r}.{near(name, [*kinds, *NAMED])}{elsewhere}")
    known = {part().name: part for part in slots_of(Metric).values()}  # type: ignore[type-abstract]
    for metric in metrics:
        if metric not in known:
            raise UsageError(f"--metric: there is no metric {metric!r}.{near(metric, list(known))}")
    task: Task = NAMED[name].task if name in NAMED else kinds[name]()
    if generation is not None:
        task = task.generated(generation)
    asked: dict[str, object] = {
        "texts": [*texts],
        "label": label,
        "choices": [*choices],
        "symmetric": symmetric or None,
        "prefix": prefix,
        "metrics": [known[metric].__name__ for metric in metrics],
    }
    task = task.overlay({name: value for name, value in asked.items() if value is not None and value != []})
    return overridden(task, settings, "--task-set")

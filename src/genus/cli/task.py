"""Fine-tuning tasks from command-line options."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from genus.errors import UsageError, near

if TYPE_CHECKING:
    from genus.attack import Attack
    from genus.export.folder import LoadedModel
    from genus.recipe import Recipe
    from genus.tasks import Task
    from genus.tasks.augment import Augmentation


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
    remembered: "Task | None" = None,
) -> "Task":
    """Return a task by kind or by the name of a dataset, with the given columns, metrics and settings.

    A task that writes does it as `generation`, a folder's own choices, unless a setting says otherwise. One of the
    kind of `remembered`, a model folder's own task, is as that in all that is not said.

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
    if remembered is not None and name not in NAMED and type(remembered) is type(task):
        task = remembered
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


def chosen_task(
    source: "LoadedModel",
    name: str | None,
    text: list[str],
    label: str | None,
    choices: list[str],
    prefix: str | None,
    metrics: list[str],
    settings: list[str],
) -> Any:
    """Return the task to measure a model on: by name, or that of its head; what its folder remembers of it is said.

    Raises:
        GenusError: what the folder remembers is no task.
        UsageError: the task, a metric or a setting is unknown, or the task is another than the model's.
    """
    from genus.errors import say
    from genus.tasks.predict import objective_of
    from genus.tasks.remembered import remembered, told, usual_task

    known = remembered(source)
    if name is None:
        known = usual_task(source, objective_of(source))
        name = kind_of(known)
    found = choose(
        name, text, label, metrics,
        choices=choices, prefix=prefix, settings=settings, generation=source.generation, remembered=known,
    )  # fmt: skip
    if known is not None and type(found) is type(known):
        usual = choose(kind_of(known))
        line = told(known, usual, columns=not text and label is None and not choices, prefix=prefix is None)
        if line:
            say(f"as the model was fine-tuned: {line}")
    return found.resolved_for(objective_of(source, found))


def with_adaptation(recipe: "Recipe", kind: str | None, settings: Sequence[str]) -> "Recipe":
    """Return a recipe with the adaptation of fine-tuning of a kind, as `--adapt` names it, and with these settings.

    Raises:
        UsageError: there is no such kind, or a setting is unknown, or of nothing.
    """
    from dataclasses import replace

    from genus.adapt import Adaptation
    from genus.catalog import overridden
    from genus.part import slots_of

    kinds = {_adaptation(name): part for name, part in slots_of(Adaptation).items()}  # type: ignore[type-abstract]
    if kind is not None and kind not in kinds:
        raise UsageError(f"--adapt: there is no {kind!r}.{near(kind, list(kinds))}")
    chosen = recipe.finetuning.adaptation if kind is None else kinds[kind]()
    if chosen is None:
        if settings:
            raise UsageError("--adapt-set: nothing is adapted; name the kind with --adapt")
        return recipe
    return replace(
        recipe, finetuning=replace(recipe.finetuning, adaptation=overridden(chosen, settings, "--adapt-set"))
    )


def augmentation_of(kind: str | None, settings: Sequence[str]) -> "Augmentation | None":
    """Return the augmentation of a kind, as `--augment` names it, with these settings; None where none is named.

    Raises:
        UsageError: there is no such kind, or a setting is unknown, or of nothing.
    """
    from genus.catalog import overridden
    from genus.part import slots_of
    from genus.tasks.augment import Augmentation

    kinds = {_spelled(name): part for name, part in slots_of(Augmentation).items()}  # type: ignore[type-abstract]
    if kind is not None and kind not in kinds:
        raise UsageError(f"--augment: there is no {kind!r}.{near(kind, list(kinds))}")
    if kind is None and settings:
        raise UsageError("--augment-set: nothing is augmented; name the kind with --augment")
    return None if kind is None else overridden(kinds[kind](), settings, "--augment-set")


def _adaptation(kind: str) -> str:
    """Return the name of an adaptation as `--adapt` takes it: `LoRA` is lora, `PrefixTuning` prefix-tuning."""
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "-", kind).lower()


def attack_of(kind: str, settings: Sequence[str], seed: int | None = None) -> "Attack":
    """Return the attack of a kind, as `--attack` names it, with these settings.

    Raises:
        UsageError: there is no such kind, or a setting is unknown.
    """
    from genus.attack import Attack
    from genus.catalog import overridden
    from genus.part import slots_of

    kinds = {_adaptation(name): part for name, part in slots_of(Attack).items()}  # type: ignore[type-abstract]
    if kind not in kinds:
        raise UsageError(f"--attack: there is no {kind!r}.{near(kind, list(kinds))}")
    given = [] if seed is None else [f"seed={seed}"]
    return overridden(overridden(kinds[kind](), given, "--seed"), settings, "--attack-set")

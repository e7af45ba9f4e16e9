"""Prediction: a fine-tuned model applied to new texts."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from genus.adapt.mixture import mixtures_of
from genus.errors import GenusError, UsageError, near, say
from genus.inference.engine import Inference
from genus.objectives import device_of, on
from genus.objectives.supervised import FineTuned
from genus.tasks import task_of
from genus.tasks.answer import Answer, answers, measure_and_sign, outputs, outputs_of
from genus.tasks.dataset import LabeledRow
from genus.train.world import device_of_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch

    from genus.export.folder import LoadedModel
    from genus.tasks import Task
    from genus.tasks.answer import Outputs
    from genus.tasks.encode import EncodedTexts
    from genus.tasks.report import Metrics
    from genus.train.run import Run


def objective_of(model: LoadedModel, task: Task | None = None) -> FineTuned:
    """Return the objective that a model was fine-tuned for, or by which it does the task as it was pretrained.

    Raises:
        GenusError: the model was not fine-tuned, and the task needs that.
        UsageError: the task needs no fine-tuning, but another model.
    """
    for objective in model.recipe.objectives:
        if isinstance(objective, FineTuned) and objective.name in model.learner.heads:
            return objective
    if task is not None and (found := task.pretrained(model.recipe.objectives, model.recipe.model)) is not None:
        return found
    raise GenusError(f"{model.recipe.name}: this model was not fine-tuned; run `genus finetune` first")


def predict(
    model: LoadedModel, texts: Sequence[tuple[str, ...]], run: Run | None = None, engine: Inference | None = None
) -> list[Answer]:
    """Return the prediction for every text, text pair or list of words; long ones are truncated as in training.

    Args:
        model: a fine-tuned model; its device and its train or eval mode are restored.
        texts: a text, a pair or the words, each.
        run: device and precision; None: the model's device, in float32.
        engine: makes the forward passes; None: one in the precision of `run`.

    Raises:
        GenusError: the model was not fine-tuned.
    """
    return score(model, task_of(objective_of(model)), _rows(texts), run, engine=engine)[0]


def predict_by(
    models: Mapping[str, LoadedModel], names: Sequence[str], texts: Sequence[tuple[str, ...]], run: Run | None = None
) -> list[Answer]:
    """Return the prediction for every text by the model that it names, such as one of several adapters on one base.

    Adapters may have different heads; those that `load_adapter` reads share the weights of their base. Texts of one
    model are predicted together, as are those of several that differ in low-rank updates (`genus.adapt.mixture`).

    Args:
        models: fine-tuned models by name.
        names: the model of each text.
        texts: a text, a pair or the words, each.
        run: device and precision; None: each model's device, in float32.

    Raises:
        GenusError: a model was not fine-tuned.
        UsageError: a name is unknown, or there are not as many names as texts.
    """
    if len(names) != len(texts):
        raise UsageError(f"{len(names)} names of models for {len(texts)} texts; name one for each")
    if unknown := [name for name in names if name not in models]:
        raise UsageError(f"there is no model {unknown[0]!r}.{near(unknown[0], [*models])}")
    used = {name: models[name] for name in dict.fromkeys(names)}
    if not used:
        return []
    places = {name: [place for place, other in enumerate(names) if other == name] for name in used}
    with ExitStack() as stack:
        for model in used.values():
            stack.enter_context(on(model.learner, _device(model, run)))
        engine = Inference(_precision(run), mixtures_of([model.learner for model in used.values()]))
        rows = {
            name: _encoded(model, task_of(objective_of(model)), _rows([texts[place] for place in places[name]]))
            for name, model in used.items()
        }
        each = [(model.learner, model.recipe.model, rows[name][1]) for name, model in used.items()]
        found = outputs_of(each, engine)
    answered: dict[int, Answer] = {}
    for name, own in zip(used, found, strict=True):
        answered |= zip(places[name], answers(*rows[name], own), strict=True)
    return [answered[place] for place in range(len(texts))]


def score(
    model: LoadedModel,
    task: Task,
    rows: Sequence[LabeledRow],
    run: Run | None = None,
    path: Path | None = None,
    engine: Inference | None = None,
) -> tuple[list[Answer], Metrics]:
    """Return the predictions for rows, and the task's metrics on the labeled ones: empty if no row has a label.

    Args:
        model: a fine-tuned model; its device and its train or eval mode are restored.
        task: names labels and metrics.
        rows: the examples.
        run: device and precision; None: the model's device, in float32.
        path: the table of the rows, for error messages.
        engine: makes the forward passes; None: one in the precision of `run`.

    Raises:
        GenusError: the model was not fine-tuned, or a label does not occur in its training.
        UsageError: the model learned from pairs and is given single texts, or the reverse.
    """
    objective, encoded, found = asked(model, task, rows, run, path, engine)
    answered = answers(objective, encoded, found)
    if not any(row.label is not None for row in rows):
        return answered, {}
    metrics, signed = measure_and_sign(task.metrics, objective, encoded, found)
    for name, told in signed.items():
        say(f"{name}: {told}")
    return answered, metrics


def asked(
    model: LoadedModel,
    task: Task,
    rows: Sequence[LabeledRow],
    run: Run | None = None,
    path: Path | None = None,
    engine: Inference | None = None,
) -> tuple[FineTuned, EncodedTexts, Outputs]:
    """Return the objective that answers, the tokenized rows and the model's outputs for them; see `score`."""
    objective, encoded = _encoded(model, task, rows, path)
    with on(model.learner, _device(model, run)):
        found = outputs(model.learner, model.recipe.model, encoded, engine or Inference(_precision(run)))
    return objective, encoded, found


def _encoded(
    model: LoadedModel, task: Task, rows: Sequence[LabeledRow], path: Path | None = None
) -> tuple[FineTuned, EncodedTexts]:
    """Return the objective that answers, and the tokenized rows, with what is to be said of them."""
    objective = task.chosen(objective_of(model, task))
    check_texts(objective, rows)
    encoded = task.encode(model.tokenizer, rows, objective, model.recipe.finetuning.max_length, path)
    for warning in encoded.warnings:
        say(f"{path or 'texts'}: {warning}")
    return objective, encoded


def _rows(texts: Sequence[tuple[str, ...]]) -> list[LabeledRow]:
    """Return rows without labels."""
    return [LabeledRow(number, each, None) for number, each in enumerate(texts, 1)]


def _device(model: LoadedModel, run: Run | None) -> torch.device:
    return device_of(model.learner) if run is None else device_of_run(run)


def _precision(run: Run | None) -> str:
    return "float32" if run is None else run.precision


def check_texts(objective: FineTuned, rows: Sequence[LabeledRow]) -> None:
    """Refuse single texts for a model of pairs, and pairs for one of single texts."""
    given = len(rows[0].texts) if rows else None
    if objective.texts is not None and given not in (None, objective.texts):
        both = {1: ("single texts", "pairs", "once"), 2: ("pairs of texts", "single ones", "twice, for both columns")}
        learned, asked, often = both[objective.texts]
        raise UsageError(f"the model was fine-tuned on {learned}, and is asked about {asked}; give --text {often}")

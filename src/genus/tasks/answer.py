"""Inference with a fine-tuned learner: outputs, metrics, predictions. M targets, C classes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.objectives import answering, device_of
from genus.tasks.feed import by_length
from genus.train.precision import autocast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from genus.evaluate.metrics import Metric
    from genus.model import Model
    from genus.objectives import Learner
    from genus.objectives.supervised import FineTuned
    from genus.tasks.dataset import LabeledRow
    from genus.tasks.encode import EncodedTexts
    from genus.tasks.report import Metrics


@dataclass(frozen=True, slots=True)
class Answer:
    """The prediction for one row."""

    predicted: str | float | list[str]
    """A label as the user wrote it, a number, a tag per word, or a text."""
    scores: dict[str, float] | list[float | None]
    """The probability of each label, or of each word's tag; empty for a predicted number. Of a text: the nats of the
    labeled one, and its tokens. Of a span: its place in the context, the sum of its logits and its probability."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a learner makes of encoded rows."""

    values: NDArray[np.float32]
    """(M, V) the head's outputs for all targets, in the order of the examples."""
    texts: list[str] | None = None
    """What it writes for each row; None where it writes nothing, or it was not asked."""


def outputs(learner: Learner, model: Model, encoded: EncodedTexts, precision: str, *, texts: bool = True) -> Outputs:
    """Return what the learner of a model makes of encoded rows, without dropout.

    Args:
        learner: with the head of the task, on its device.
        model: the learner's.
        encoded: the rows.
        precision: dtype of the forward pass, as in `Run.precision`.
        texts: whether texts are written, where the task is to write; they take a forward pass for each token.
    """
    return Outputs(_values(learner, encoded, precision), encoded.written(learner, model, precision) if texts else None)


def _values(learner: Learner, encoded: EncodedTexts, precision: str) -> NDArray[np.float32]:
    """Return the head's outputs (M, V) for all targets, in the order of the examples."""
    heads = frozenset({encoded.target})
    device = device_of(learner)
    places, found = [], []
    with answering(learner), autocast(precision, device):
        for chosen, batch in by_length(encoded):
            batch = replace(batch, heads=heads).to(device)
            answer = encoded.answer(learner.outputs(batch)[encoded.target], batch.targets[encoded.target])
            places.append(encoded.target_slices(chosen))
            found.append(answer.cpu().numpy())
    ordered: NDArray[np.float32] = np.concatenate(found)[np.argsort(np.concatenate(places))]
    return ordered


def measure(metrics: Iterable[Metric], objective: FineTuned, encoded: EncodedTexts, found: Outputs) -> Metrics:
    """Return each metric, by name, over the labeled targets; None if it is undefined for them."""
    return measure_and_sign(metrics, objective, encoded, found)[0]


def measure_and_sign(
    metrics: Iterable[Metric], objective: FineTuned, encoded: EncodedTexts, found: Outputs
) -> tuple[Metrics, dict[str, str]]:
    """Return what `measure` returns, and the signature of each metric that has one, by name.

    Truth and predictions are made once for all metrics that judge the same.
    """
    measured: Metrics = {}
    signed: dict[str, str] = {}
    sides: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    for one in metrics:
        if one.judges not in sides:
            sides[one.judges] = encoded.for_metrics(objective, found, one.judges)
        truth, predicted = sides[one.judges]
        measured[one.name] = one(truth, predicted) if one.defined(truth) else None
        if told := one.signature(truth):
            signed[one.name] = told
    return measured, signed


def answers(objective: FineTuned, encoded: EncodedTexts, found: Outputs) -> list[Answer]:
    """Return the prediction for every row."""
    return [Answer(*one) for one in encoded.answers(objective, found)]


def lines(rows: Iterable[LabeledRow], found: Iterable[Answer]) -> str:
    """Return predictions as JSON lines, in the order of the rows, each with its line number in its file, and its id."""
    told = []
    for row, answer in zip(rows, found, strict=True):
        named = {"line": row.line} | ({} if row.id is None else {"id": row.id})
        told.append(json.dumps(named | {"label": row.label} | asdict(answer)) + "\n")
    return "".join(told)

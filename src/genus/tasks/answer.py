"""Inference with a fine-tuned learner: outputs, metrics, predictions. M targets, C classes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from genus.objectives import answering, device_of
from genus.tasks.feed import by_length
from genus.train.precision import autocast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from genus.evaluate.metrics import Metric
    from genus.objectives import Learner
    from genus.objectives.supervised import FineTuned
    from genus.tasks.dataset import LabeledRow
    from genus.tasks.encode import EncodedTexts
    from genus.tasks.report import Metrics


@dataclass(frozen=True, slots=True)
class Answer:
    """The prediction for one row."""

    predicted: str | float | list[str]
    """A label as the user wrote it, a number, or a tag per word."""
    scores: dict[str, float] | list[float | None]
    """The probability of each label, or of each word's tag; empty for a predicted number."""


def outputs(learner: Learner, encoded: EncodedTexts, precision: str) -> NDArray[np.float32]:
    """Return the head's outputs (M, V) for all targets, in the order of the examples and without dropout."""
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


def measure(
    metrics: Iterable[Metric], objective: FineTuned, encoded: EncodedTexts, outputs_MV: NDArray[np.float32]
) -> Metrics:
    """Return each metric, by name, over the labeled targets; None if it is undefined for them."""
    truth, predicted = encoded.for_metrics(objective, outputs_MV)
    return {metric.name: metric(truth, predicted) if metric.defined(truth) else None for metric in metrics}


def answers(objective: FineTuned, encoded: EncodedTexts, outputs_MV: NDArray[np.float32]) -> list[Answer]:
    """Return the prediction for every row, from the head's outputs (M, V)."""
    return [Answer(*one) for one in encoded.answers(objective, outputs_MV)]


def lines(rows: Iterable[LabeledRow], found: Iterable[Answer]) -> str:
    """Return predictions as JSON lines, in the order of the rows, each with the row's line number in its file."""
    pairs = zip(rows, found, strict=True)
    return "".join(json.dumps({"line": row.line, "label": row.label, **asdict(answer)}) + "\n" for row, answer in pairs)

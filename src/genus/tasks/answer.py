"""What a fine-tuned learner answers. N examples, C classes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from genus.tasks.feed import by_length
from genus.train.precision import autocast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from genus.evaluate.metrics import Metric
    from genus.objectives import Learner
    from genus.objectives.sequence import OnSequence, SequenceHead
    from genus.tasks.dataset import Row
    from genus.tasks.encode import Encoded


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered for one row."""

    predicted: str | float
    """A label in the user's words, or a number."""
    scores: dict[str, float]
    """The probability of each label; empty where a number is predicted."""


def outputs(learner: Learner, encoded: Encoded, precision: str) -> NDArray[np.float32]:
    """Return the head's outputs (N, C) for every example, in the examples' order and without dropout."""
    head = cast("SequenceHead", learner.heads[encoded.target])
    device = head.classes.weight.device
    found = np.empty((len(encoded), head.classes.out_features), np.float32)
    training = learner.training
    learner.eval()
    with torch.no_grad(), autocast(precision, device):
        for chosen, batch in by_length(encoded):
            moved = batch.to(device)
            found[chosen] = head.outputs(learner.network, learner.network(moved), moved).float().cpu().numpy()
    learner.train(training)
    return found


def measure(
    metrics: Iterable[Metric], objective: OnSequence, encoded: Encoded, outputs_NC: NDArray[np.float32]
) -> dict[str, float]:
    """Return each metric over the examples that have a label."""
    labels = encoded.labels
    labeled = ~np.isnan(labels) if labels.dtype.kind == "f" else labels != objective.target(None)
    predicted = objective.decide(outputs_NC)
    return {metric.name: metric(labels[labeled], predicted[labeled]) for metric in metrics}


def answers(objective: OnSequence, outputs_NC: NDArray[np.float32]) -> list[Answer]:
    """Return the answer for every row of outputs."""
    return [Answer(*objective.explain(row)) for row in outputs_NC]


def lines(rows: Iterable[Row], found: Iterable[Answer]) -> str:
    """Return answers as JSON lines, in the order of the rows and with the line at which each row stands in its file."""
    pairs = zip(rows, found, strict=True)
    return "".join(json.dumps({"line": row.line, "label": row.label, **asdict(answer)}) + "\n" for row, answer in pairs)

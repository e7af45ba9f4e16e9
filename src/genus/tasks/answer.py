"""Inference with a fine-tuned learner: outputs, metrics, predictions. M targets, C classes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.inference import Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Targets
    from genus.evaluate.metrics import Metric
    from genus.examples import Example
    from genus.inference.engine import Inference
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


@dataclass(frozen=True, kw_only=True, slots=True)
class RowWork(Work):
    """What is asked of the head of a task for one encoded row."""

    encoded: EncodedTexts
    number: int
    """Of the row."""
    sequences: NDArray[np.int64]
    """Indices of its sequences."""

    @property
    def shortened(self) -> bool:
        """Whether a row of the table lost its end."""
        return len(self.encoded.cut) > 0

    def examples(self) -> Sequence[Example]:
        """Return the row's sequences."""
        return [self.encoded.example(i) for i in self.sequences.tolist()]

    def gathered(self, targets: Targets) -> Targets:
        """Return the row's targets."""
        return self.encoded.gathered(targets, np.array([self.number]))

    def answer(self, outputs: dict[str, Tensor], targets: Targets) -> NDArray[np.float32]:
        """Return what the task keeps of the head's outputs (M, V)."""
        found: NDArray[np.float32] = self.encoded.answer(outputs, targets).cpu().numpy()
        return found


def outputs(learner: Learner, model: Model, encoded: EncodedTexts, engine: Inference, *, texts: bool = True) -> Outputs:
    """Return what the learner of a model makes of encoded rows, without dropout.

    Args:
        learner: with the head of the task, on its device.
        model: the learner's.
        encoded: the rows.
        engine: makes the forward passes.
        texts: whether texts are written, where the task is to write; they take a forward pass for each token.
    """
    return outputs_of([(learner, model, encoded)], engine, texts=texts)[0]


def outputs_of(
    asked: Sequence[tuple[Learner, Model, EncodedTexts]], engine: Inference, *, texts: bool = True
) -> list[Outputs]:
    """Return what learners make of encoded rows, each of its own; those that can be mixed share forward passes.

    Args:
        asked: learners with the model of each and its rows; see `outputs`.
        engine: makes the forward passes.
        texts: whether texts are written, where the task is to write.
    """
    each = [works(learner, encoded) for learner, _, encoded in asked]
    most = min(encoded.tokens_at_once for _, _, encoded in asked)
    answered = iter(engine.run([work for own in each for work in own], most))
    nothing = np.zeros((0, 1), np.float32)  # of texts of which the tokenizer leaves none to be told of
    found = []
    for own, (learner, model, encoded) in zip(each, asked, strict=True):
        values: NDArray[np.float32] = np.concatenate([*islice(answered, len(own))] or [nothing])
        found.append(Outputs(values, encoded.written(learner, model, engine.precision) if texts else None))
    return found


def works(learner: Learner, encoded: EncodedTexts) -> list[RowWork]:
    """Return what is asked of a learner for each encoded row."""
    streams, found = encoded.stream_lengths, []
    for number in range(len(encoded)):
        own = encoded.sequences(np.array([number]))
        lengths = {name: each[own].tolist() for name, each in streams.items()}
        found.append(
            RowWork(
                learner=learner, head=encoded.target, target=encoded.target, pad=encoded.vocabulary.pad,
                lengths=lengths, encoded=encoded, number=number, sequences=own,
            )
        )  # fmt: skip
    return found


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

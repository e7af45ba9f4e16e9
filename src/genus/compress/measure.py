"""What a model of a task is worth: its score on a table, its time per text and its size."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from genus.errors import GenusError
from genus.examples.feed.pack import pack
from genus.export.onnx.folder import graph_files
from genus.export.weights import weight_files
from genus.inference.engine import Inference
from genus.objectives import answering, device_of, on
from genus.tasks.answer import measure, outputs
from genus.tasks.dataset import read
from genus.tasks.feed import gathered
from genus.tasks.predict import objective_of
from genus.tasks.remembered import usual_task
from genus.train.precision import autocast
from genus.train.world import device_of_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from genus.batch import Batch
    from genus.evaluate.metrics import Metric
    from genus.export.folder import LoadedModel
    from genus.tasks import Task
    from genus.tasks.dataset import LabeledRow
    from genus.tasks.encode import EncodedTexts
    from genus.tasks.report import Metrics
    from genus.train.run import Run

T = TypeVar("T")
BATCHES = (1, 32)
"""Texts at once whose time is told: one, as of who asks, and many, as of a table."""
TIMED = 128
"""Most texts that are timed, evenly spaced in the table."""
ROUNDS = 3


@dataclass(frozen=True)
class Table:
    """A table of labeled rows, and the task whose metrics are measured on it."""

    path: Path
    task: Task
    rows: Sequence[LabeledRow]

    @classmethod
    def of(cls, path: Path, model: LoadedModel, task: Task | None = None) -> Table:
        """Return a table for a model that was fine-tuned.

        Args:
            path: the table.
            model: the model.
            task: names columns and metrics; None: the usual ones of what the model learned.

        Raises:
            GenusError: the model was not fine-tuned, or no row has a label.
        """
        objective = objective_of(model)
        found = (task or usual_task(model, objective)).told_by(path, objective.classes).resolved_for(objective)
        rows = [row for row in read(path, found) if row.label is not None]
        if not rows:
            raise GenusError(f"{path}: no row has a label, by which a score could be measured; take a labeled table")
        return cls(path, found, rows)

    @property
    def main(self) -> Metric:
        """The metric by which models are compared."""
        return self.task.metrics[0]

    def encoded(self, model: LoadedModel, rows: Sequence[LabeledRow] | None = None) -> EncodedTexts:
        """Return its rows, or some of them, as a model reads them."""
        length = model.recipe.finetuning.max_length
        given = self.rows if rows is None else rows
        return self.task.encode(model.tokenizer, given, objective_of(model), length, self.path)


@dataclass(frozen=True, slots=True)
class Worth:
    """What a model is worth."""

    scores: Metrics
    milliseconds: dict[str, float]
    """Time per text, by the number of texts at once."""
    megabytes: float
    """Size of the files of its weights."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


def worth(model: LoadedModel, folder: Path, table: Table, run: Run) -> Worth:
    """Return what a model that lies in a folder is worth on a table.

    Times are medians of rounds over the same texts, padded where several are read at once, without tokenizing.
    """
    objective = objective_of(model)
    with on(model.learner, device_of_run(run)):
        encoded = table.encoded(model)
        found = outputs(model.learner, model.recipe.model, encoded, Inference(run.precision))
        scores = measure(table.task.metrics, table.task.chosen(objective), encoded, found)
        times = {str(size): _time(model, [*batches_of(encoded, size, TIMED)], run) for size in BATCHES}
    return Worth(scores, times, round(file_bytes(folder) / 1e6, 3))


def file_bytes(folder: Path) -> int:
    """Return the bytes of the files of a folder's weights or graph."""
    return sum((folder / name).stat().st_size for name in {*weight_files(folder), *graph_files(folder)})


def spread(rows: Sequence[T], most: int) -> list[T]:
    """Return at most so many rows, evenly spaced."""
    return [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))]


def batches_of(encoded: EncodedTexts, size: int, most: int | None = None) -> Iterator[Batch]:
    """Yield batches of so many examples, each sequence in a row of its own; of at most so many, evenly spaced."""
    chosen = np.array(spread(range(len(encoded)), most or len(encoded)))
    for first in range(0, len(chosen), size):
        some = chosen[first : first + size]
        sequences = encoded.sequences(some)
        limits = {stream: int(one[sequences].max()) for stream, one in encoded.stream_lengths.items()}
        rows = [[encoded.example(i)] for i in sequences.tolist()]
        yield gathered(encoded, pack(rows, limits, encoded.vocabulary.pad, streams=False), some)


def _time(model: LoadedModel, batches: Sequence[Batch], run: Run) -> float:
    """Return the milliseconds per sequence."""
    device, texts = device_of(model.learner), sum(len(batch.tokens.spans()) for batch in batches)
    rounds = []
    with answering(model.learner), autocast(run.precision, device):
        for number in range(ROUNDS + 1):
            begun = time.perf_counter()
            for batch in batches:
                model.learner.outputs(batch.to(device))
            if number:  # the first round warms up
                rounds.append(time.perf_counter() - begun)
    return round(1000 * median(rounds) / texts, 4)

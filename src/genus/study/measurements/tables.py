"""What frozen states and fine-tuning reach on a labeled table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genus.errors import GenusError, UsageError
from genus.evaluate.metrics import Accuracy
from genus.examples.keys import PLAN, generator
from genus.files import write_text
from genus.part import Count, NotNegative, Positive
from genus.study.corpus import digest
from genus.study.measurements import Measurement, Score
from genus.study.probing import fitted
from genus.tasks import Task
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files
from genus.tasks.features import feature_blocks
from genus.tasks.finetune import finetune
from genus.tasks.splits import read_splits
from genus.tasks.table import rows as table_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from genus.part import Json
    from genus.recipe import FineTuning
    from genus.study.measurements import Subject
    from genus.tasks.splits import Split

TEXT_TOKENS = 40
"""Tokens of a row, about; for the time that is told only."""
BACKWARD = 3.0
"""As in `likelihood`."""


class LinearProbe(Measurement):
    """Linear probe: the accuracy of a logistic regression on frozen states of the last layer, mean over tokens.

    The states are standardized by the training rows. The regression has the weight decay that is best in validation
    and minimizes Σ_i -log softmax(W x_i + b)[y_i] / N + decay ‖W‖² / 2. The score is on the test table, and where there
    is none, on half of the validation table, of which the other half chooses.
    """

    unit: ClassVar[str] = "accuracy"

    table: str
    """Folder with `train` and, if they are there, `validation` and `test`: `.jsonl`, `.csv`, `.tsv` or `.parquet`."""
    task: Task = Classification()
    """Columns of the table; its rows have a class each."""
    rows: Count = 2000
    """Rows of each table at most, the first ones."""
    decays: tuple[NotNegative, ...] = (1e-4, 1e-3, 1e-2, 1e-1)

    @property
    def name(self) -> str:
        """Kind and table."""
        return f"linear-probe {Path(self.table).resolve().name}"

    def check(self) -> None:
        """Read the tables."""
        _splits(self.table, self.task)

    def contents(self) -> Json:
        """Return digests of the tables."""
        return _digests(self.table)

    def tokens(self) -> float:
        """Return about how many tokens are read."""
        return 3.0 * self.rows * TEXT_TOKENS / BACKWARD

    def measure(self, subject: Subject) -> Score:
        """Return the accuracy."""
        model = subject.model()
        if model.recipe.model.streams != {"tokens"}:
            return Score(None, detail={"why": "has no states of one text alone"})
        sides = _three(_splits(self.table, self.task))
        known = sorted({label for _, label in sides["train"]})
        found = {}
        for name, rows in sides.items():
            kept = [row for row in rows if row[1] in known][: self.rows]
            blocks = feature_blocks(model, [text for text, _ in kept], run=subject.run)
            states = np.concatenate([block.vectors for block in blocks])
            found[name] = states.astype(np.float64), np.array([known.index(label) for _, label in kept])
        return Score(*_probed(found, self.decays, len(known)))


class FullFineTuning(Measurement):
    """Fine-tuning of all weights on a table, by the row's own settings: the first metric of the task, mean over runs.

    The score is on the test table, and without one on the validation table, which also chooses the best evaluation.
    """

    unit: ClassVar[str] = "score"

    table: str
    """As of a linear probe."""
    task: Task = Classification(metrics=(Accuracy(),))
    """Columns, kind and metrics."""
    runs: Count = 1
    """Fine-tunings of each pretraining, with seeds of their own; their mean is one value."""
    epochs: Positive | None = None
    """None: as the row's recipe says."""
    lr: Positive | None = None
    """Learning rate, as of all rows; None: as the row's recipe says."""
    max_length: Count | None = None
    """Longest text in tokens; None: as the row's recipe says."""

    @property
    def name(self) -> str:
        """Kind and table."""
        return f"fine-tuning {Path(self.table).resolve().name}"

    def check(self) -> None:
        """Read the tables."""
        read_splits(_files(self.table), self.task)

    def contents(self) -> Json:
        """Return digests of the tables."""
        return _digests(self.table)

    def tokens(self) -> float:
        """Return about how many tokens are trained on, or the same in evaluation."""
        return self.runs * (self.epochs or 4.0) * TEXT_TOKENS * _length(_files(self.table).train)

    def settings(self, own: FineTuning) -> FineTuning:
        """Return a row's settings with those that are the same for all rows."""
        changes: dict[str, Any] = {"epochs": self.epochs, "max_length": self.max_length}
        if self.lr is not None:
            changes["optimizer"] = own.optimizer.override("lr", self.lr)
        return replace(own, **{name: value for name, value in changes.items() if value is not None})

    def files(self, subject: Subject) -> Files:
        """Return the tables of a row and seed."""
        return _files(self.table)

    def measure(self, subject: Subject) -> Score:
        """Return the mean score of the fine-tunings."""
        seeds = range(self.runs * subject.seed, self.runs * (subject.seed + 1))
        try:
            report = finetune(
                subject.start(), self.task, self.files(subject), subject.folder / "runs",
                settings=self.settings(subject.recipe.finetuning), seeds=tuple(seeds), run=subject.run, publish=False,
            )  # fmt: skip
        except UsageError as error:
            return Score(None, detail={"why": str(error)})
        metric = report.task.metrics[0].name
        split = "test" if "test" in report.trials[0].metrics else "validation"
        values = {str(trial.seed): trial.metrics[split][metric] for trial in report.trials}
        known = [value for value in values.values() if value is not None]
        value = float(np.mean(known)) if len(known) == len(values) else None
        return Score(value, metric, {"metric": metric, "split": split, "runs": values})


class FewShot(FullFineTuning):
    """Fine-tuning on few labels: so many rows of each class, drawn by the seed, the same ones for all rows."""

    unit: ClassVar[str] = "score"

    shots: Count = 16
    """Rows of each class."""

    @property
    def name(self) -> str:
        """Kind, number and table."""
        return f"{self.shots}-shot {Path(self.table).resolve().name}"

    def check(self) -> None:
        """Read the tables, one of which is for validation."""
        if read_splits(_files(self.table), self.task)["validation"].held_out:
            raise GenusError(f"{self.table}: few shots need a validation table beside the training table")

    def files(self, subject: Subject) -> Files:
        """Write a training table of the drawn rows; return it with the others."""
        whole = _files(self.table)
        splits = read_splits(whole, self.task)
        lines = {row.line for row in _few(splits["train"], self.shots, subject.seed)}
        kept = [row for line, row in table_rows(whole.train) if line in lines]
        path = subject.folder / "few.jsonl"
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
        return replace(whole, train=path)

    def tokens(self) -> float:
        """Return about how many tokens are trained on, evaluations included."""
        return super().tokens() / 10


def _few(split: Split, shots: int, seed: int) -> list[Any]:
    """Return so many rows of each class."""
    order = generator(seed, PLAN, 0, 0).permutation(len(split.rows)).tolist()
    taken: dict[object, list[Any]] = {}
    for place in order:
        row = split.rows[place]
        several = taken.setdefault(row.label, [])
        if len(several) < shots:
            several.append(row)
    return [row for several in taken.values() for row in several]


def _files(table: str) -> Files:
    folder = Path(table)
    if not folder.is_dir():
        raise UsageError(f"{table}: there is no such folder of tables (train.jsonl, validation.jsonl, test.jsonl)")
    return Files.find(folder)


def _digests(table: str) -> Json:
    files = _files(table)
    return {path.name: digest(path) for path in (files.train, files.validation, files.test) if path is not None}


def _length(path: Path) -> int:
    """Return the number of rows of a table."""
    return sum(1 for _ in table_rows(path))


def _splits(table: str, task: Task) -> dict[str, Split]:
    """Return the splits of a table whose rows have one text and one class.

    Raises:
        UsageError: they have something else.
    """
    found = read_splits(_files(table), task)
    if any(len(row.texts) != 1 or isinstance(row.label, tuple) for split in found.values() for row in split.rows):
        raise UsageError(f"{table}: a linear probe is of single texts with one class each; take fine-tuning")
    return found


def _three(splits: dict[str, Split]) -> dict[str, list[tuple[str, str]]]:
    """Return (text, class) of rows with a class to train on, to choose by, and to test on."""
    found = {
        name: [(row.texts[0], str(row.label)) for row in split.rows if row.label is not None]
        for name, split in splits.items()
    }
    if not found.get("test"):
        chosen = found["validation"]
        found |= {"validation": chosen[::2], "test": chosen[1::2] or chosen}
    return found


def _probed(
    sides: dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]], decays: Sequence[float], classes: int
) -> tuple[float, str, dict[str, Any]]:
    """Return the accuracy in test with the decay that is best in validation, of ties the larger one."""
    mean, scale = sides["train"][0].mean(0), sides["train"][0].std(0)
    ready = {name: ((x - mean) / np.where(scale > 0, scale, 1.0), y) for name, (x, y) in sides.items()}
    scores = {}
    for decay in decays:
        weight, bias = fitted(*ready["train"], classes, decay)
        scores[decay] = {name: float(np.mean((x @ weight + bias).argmax(1) == y)) for name, (x, y) in ready.items()}
    best = max(scores, key=lambda decay: (scores[decay]["validation"], decay))
    return scores[best]["test"], "accuracy", {"decay": best, **scores[best], "rows": len(ready["test"][1])}



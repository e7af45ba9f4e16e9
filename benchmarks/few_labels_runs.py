"""What one process does for `few_labels.py`: a fine-tuning on few labels in one way, and its score."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from family_data import drawn

from genus.examples.keys import CORRUPT, PLAN, generator
from genus.export.folder import load
from genus.files import write_text
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.tasks.dataset import Files
from genus.tasks.finetune import finetune
from genus.tasks.start import Start
from genus.train.provenance import surroundings
from genus.train.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import FineTuning, Recipe
    from genus.tasks import Task
    from genus.tasks.augment import Augmentation

BATCH, UPDATES, EPOCHS = 16, 100, 4
"""Rows of an update; updates at least; passes over the labeled rows at least."""


@dataclass(frozen=True)
class FewLabeled:
    """One fine-tuning; the last weights count, so that nothing is chosen by the rows that are measured."""

    task: Task
    tables: Path
    model: Path
    folder: Path
    seed: int
    labels: int
    copies: int
    """Rows that the augmentation makes of each, for about as many updates as without it."""
    augmentation: Augmentation | None

    def __call__(self) -> dict[str, Any]:
        """Return the metrics on the validation table, the rows that were made, and the seconds of the updates."""
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        source = load(self.model)
        start = Start(source.recipe, source.tokenizer, source.learner, self.model)
        report = finetune(
            start, self.task, Files.find(self.tables), self.folder / "run", settings=self.settings(source.recipe),
            seeds=(self.seed,), run=Run(device="cpu", workers=0, tracker="none"), publish=False,
            augmentation=self.augmentation,
        )  # fmt: skip
        (trial,) = report.trials
        return {
            "metrics": trial.metrics["validation"],
            "made": 0 if report.augmentation is None else report.augmentation.rows,
            "seconds": trial.seconds,
            "surroundings": surroundings(torch.device("cpu")),
        }

    def settings(self, row: Recipe) -> FineTuning:
        """Return the settings: the same number of updates whatever the copies."""
        updates = max(UPDATES, EPOCHS * self.labels / BATCH)
        return replace(
            row.finetuning, optimizer=AdamW(lr=5e-5, clip_norm=1.0), schedule=Linear(warmup=0.1), keep="last",
            epochs=updates * min(BATCH, self.labels) / (self.labels * (1 + self.copies)), batch=BATCH, max_length=64,
        )  # fmt: skip


def write_tables(source: Path, folder: Path, task: Task, labels: int, noise: float, seed: int, measured: int) -> None:
    """Write the tables of a seed: labeled rows, as many of each class as can be, rows without labels, and validation.

    Args:
        source: the folder of the data set.
        folder: where they are written.
        task: names the column of the labels.
        labels: labeled rows.
        noise: share of these that get another class at random.
        seed: of all draws.
        measured: rows that are measured on, at most, always the same.
    """
    found = Files.find(source)
    assert found.validation is not None
    rows = [json.loads(line) for line in drawn(found.train, 1 << 40)]
    order = generator(seed, PLAN, 1, 0).permutation(len(rows)).tolist()
    classes = sorted({str(row[task.label]) for row in rows})
    queues = {one: [place for place in order if str(rows[place][task.label]) == one] for one in classes}
    chosen = [queues[classes[number % len(classes)]][number // len(classes)] for number in range(labels)]
    rng, given = generator(seed, CORRUPT, 1, 0), []
    values = {str(row[task.label]): row[task.label] for row in rows}
    for place in chosen:
        row = dict(rows[place])
        if rng.random() < noise:
            others = [one for one in classes if one != str(row[task.label])]
            row[task.label] = values[others[int(rng.integers(len(others)))]]
        given.append(row)
    taken = {*chosen}
    rest = [rows[place] for place in order if place not in taken][: min(1_000, 10 * labels)]
    bare = [{column: row[column] for column in task.texts} for row in rest]
    held = [json.loads(line) for line in drawn(found.validation, measured)]
    for name, several in (("train", given), ("validation", held), ("unlabeled", bare)):
        write_text(folder / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in several))

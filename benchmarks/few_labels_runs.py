"""The tables of `few_labels.py`, and the settings of its fine-tunings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from family_data import drawn
from minilm import ALL
from minilm_runs import settings

from genus.examples.keys import CORRUPT, PLAN, generator
from genus.files import write_text
from genus.tasks.dataset import Files

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import FineTuning
    from genus.tasks import Task

BATCH, UPDATES, EPOCHS = 16, 100, 4
"""Rows of an update; updates at least; passes over the labeled rows at least."""


def few_updates(labels: int, copies: int) -> FineTuning:
    """Return settings with the same number of updates whatever the rows that the augmentation makes of each."""
    updates = max(UPDATES, EPOCHS * labels / BATCH)
    return settings(5e-5, updates * min(BATCH, labels) / (labels * (1 + copies)), BATCH, 64)


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
    rows = [json.loads(line) for line in drawn(found.train, ALL)]
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

"""The data of `family.py`: text to pretrain on, tasks with few labels, and pairs of sentences."""

from __future__ import annotations

import gzip
import json
import lzma
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genus.evaluate.tags import EntityF1, WordAccuracy
from genus.examples.keys import PLAN, generator
from genus.files import write_text
from genus.tasks.dataset import Files
from genus.tasks.tagging import Tagging

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tasks import Task


@dataclass(frozen=True)
class FewLabels:
    """A task of which only so many labeled rows are trained on."""

    source: str
    """Folder of the data."""
    task: Task
    labeled: int


TASKS = {
    "parts-of-speech": FewLabels("conll2003", Tagging(label="pos_tags", metrics=(WordAccuracy(),)), 200),
    "chunks": FewLabels("conll2003", Tagging(label="chunk_tags", metrics=(EntityF1(),)), 200),
    "names": FewLabels("conll2003", Tagging(metrics=(EntityF1(),)), 500),
}
"""Parts of speech, phrases and names of words in news: what a word is depends on its neighbors.

Topics of news and emotions of messages are not among them: single words tell those, and a network of this size learns
them from 500 labels as well without pretraining (measured; see `README.md`).
"""
VALIDATION, TEST = 500, 1000
"""Rows of each task by which the best of a run's evaluations is chosen, and those of which the scores are."""
PAIRS = 50
"""Pairs of each of BLiMP's files."""
BLIMP = "blimp"


def write_corpus(source: Path, path: Path, size: int) -> None:
    """Write the first documents of a corpus, up to that many bytes of it."""
    if path.exists():
        return
    kept, total = [], 0
    with lzma.open(source, "rt", encoding="utf-8") as lines:
        for line in lines:
            if total > size:
                break
            kept.append(line)
            total += len(line.encode())
    write_text(path, "".join(kept))


def write_tables(source: Path, folder: Path, task: Task, labeled: int, most: int | None = None) -> None:
    """Write a task's tables, their rows drawn at random: validation rows from the training table too.

    Test rows are of the test table, or of the validation table where there is none. Rows with a label that no training
    row has are left out of both.

    Args:
        source: the folder of the task.
        folder: where the tables are written.
        task: what its labels are.
        labeled: number of rows to train on.
        most: the largest number of rows of each table, for a trial; None: as it should be.
    """
    found = Files.find(source)
    asked = [number if most is None else min(number, most) for number in (labeled, VALIDATION, TEST)]
    tested = found.test or found.validation
    assert tested is not None
    train = drawn(found.train, asked[0] + asked[1])
    known, others = train[: asked[0]], {"validation": train[asked[0] :], "test": drawn(tested, asked[2])}
    tables = {"train": known} | {name: answerable(lines, known, task) for name, lines in others.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in tables.items():
        write_text(folder / f"{name}.jsonl", "".join(lines))


def answerable(lines: list[str], known: list[str], task: Task) -> list[str]:
    """Return the rows whose labels are all among those of the known rows."""

    def labels(line: str) -> set[Any]:
        _, label = task.read(json.loads(line))
        return {*label} if isinstance(label, (tuple, list)) else {label}

    seen = set[Any]().union(*map(labels, known))
    return [line for line in lines if labels(line) <= seen]


def write_pairs(source: Path, path: Path, number: int) -> None:
    """Write so many pairs of each phenomenon, drawn at random."""
    files = sorted(source.glob("*.jsonl.gz"))
    pairs = [
        {"phenomenon": file.name.split(".")[0]} | json.loads(line) for file in files for line in drawn(file, number)
    ]
    told = ("phenomenon", "sentence_good", "sentence_bad")
    write_text(path, "".join(json.dumps({name: pair[name] for name in told}) + "\n" for pair in pairs))


def drawn(path: Path, number: int) -> list[str]:
    """Return so many lines of a packed table, always the same."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = list(file)
    return [lines[place] for place in generator(0, PLAN, 0, 0).permutation(len(lines))[:number].tolist()]

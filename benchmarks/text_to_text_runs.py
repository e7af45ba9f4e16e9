"""What one process does for `text_to_text.py`: one start, and tasks of text to text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from family_data import drawn
from family_runs import Training

from genus.files import write_text
from genus.tasks.dataset import Files
from genus.tasks.finetune import finetune
from genus.train.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tasks.start import Start

VALIDATION, TEST = 200, 400
"""Rows by which the best of a run's evaluations is chosen, and of which the scores are."""


@dataclass(frozen=True)
class Written(Training):
    """One start, and what is written from it: scores of whole texts cannot be taken apart by row as the family's."""

    def _tune(self, start: Start, task: str) -> dict[str, Any]:
        """Fine-tune with every seed; return each seed's test metrics, and the seconds it took."""
        report = finetune(
            start,
            self.tasks[task],
            Files.find(self.tables / task),
            self.folder / task,
            settings=self.recipe.finetuning,
            seeds=self.seeds,
            run=Run(device="cpu", workers=0, tracker="none"),
        )
        return {
            "metrics": {str(trial.seed): trial.metrics["test"] for trial in report.trials},
            "seconds": {str(trial.seed): trial.seconds for trial in report.trials},
        }


def write_tables(source: Path, folder: Path, labeled: int) -> None:
    """Write a task's tables, their rows drawn at random; validation rows are of training."""
    found = Files.find(source)
    assert found.test is not None
    train = drawn(found.train, labeled + VALIDATION)
    tables = {"train": train[:labeled], "validation": train[labeled:], "test": drawn(found.test, TEST)}
    for name, lines in tables.items():
        write_text(folder / f"{name}.jsonl", "".join(json.dumps(json.loads(line)) + "\n" for line in lines))

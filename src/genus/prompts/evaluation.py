"""The evaluation of a model on a prompted task, and its report."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import json

import numpy as np

from genus.errors import GenusError, UsageError
from genus.evaluate.interval import Interval, bootstrap
from genus.prompts.examples import Shots

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.prompts import Answered, Asked, PromptedTask, TableRow
    from genus.prompts.answerer import Answerer


@dataclass(frozen=True)
class Report:
    """What a model answered to a prompted task."""

    task: PromptedTask
    scoring: str
    """`log-likelihood`, `pseudo-log-likelihood` or `generation`."""
    shots: int
    seed: int
    asked: list[Asked]
    answered: list[Answered]

    @property
    def cut(self) -> int:
        """How many prompts lost their left end."""
        return sum(one.cut for one in self.answered)

    def metrics(self) -> dict[str, Interval]:
        """Return each metric over all rows, with the 95 % percentile interval of the bootstrap over rows."""
        return {metric: self._interval(metric) for metric in self.task.metrics}

    def _interval(self, metric: str) -> Interval:
        values = np.array([one.values[metric] for one in self.answered])
        return bootstrap(lambda chosen: self.task.summary(metric, values[chosen]), len(values), seed=self.seed)

    def by_file(self) -> dict[str, dict[str, float]]:
        """Return each metric over the rows of each file."""
        files = np.array([str(one.row.file) for one in self.asked])
        values = {metric: np.array([one.values[metric] for one in self.answered]) for metric in self.task.metrics}
        return {
            file: {metric: self.task.summary(metric, own[files == file]) for metric, own in values.items()}
            for file in dict.fromkeys(files.tolist())
        }

    def to_json(self) -> dict[str, Any]:
        """Return the results: task with version and hash, seed, shots, every metric with its interval."""
        files = Counter(str(one.row.file) for one in self.asked)
        return {
            "task": self.task.name,
            "version": self.task.version,
            "task_hash": self.task.hash(),
            "scoring": self.scoring,
            "shots": self.shots,
            "seed": self.seed,
            "rows": len(self.asked),
            "cut_prompts": self.cut,
            "metrics": {metric: asdict(found) for metric, found in self.metrics().items()},
            "files": {file: {"rows": files[file], **metrics} for file, metrics in self.by_file().items()},
            "choices": self.task.written(),
        }

    def lines(self) -> str:
        """Return each row's prompt and answer as JSON lines."""
        return "".join(
            json.dumps(
                {"file": str(one.row.file), "line": one.row.line, "prompt": one.prompt, "cut": found.cut, **found.told},
                ensure_ascii=False,
            )
            + "\n"
            for one, found in zip(self.asked, self.answered, strict=True)
        )


def evaluate(
    answerer: Answerer,
    task: PromptedTask,
    rows: Sequence[TableRow],
    examples: Sequence[TableRow] = (),
    *,
    shots: int = 0,
    seed: int = 0,
) -> Report:
    """Ask a model each row of a task.

    Args:
        answerer: the model.
        task: what is asked.
        rows: the tested rows.
        examples: rows of which the worked examples are drawn.
        shots: number of worked examples before each question.
        seed: of the draws of examples, and of the bootstrap.

    Raises:
        GenusError: a row that lacks a column, an empty choice or answer, or a model that cannot answer.
        UsageError: more shots than examples, or a prompt that is too long and may not be cut.
    """
    scoring = answerer.likelihood if task.scoring == "likelihood" else task.scoring
    drawn = Shots(examples, shots, seed)
    asked = []
    for row in rows:
        chosen = drawn.of(row)
        for one in (*chosen, row):  # an example that cannot be read is named itself
            try:
                task.worked(one)
            except ValueError as error:
                raise GenusError(f"{one}: {error}") from None
        asked.append(task.asked(row, chosen))
    return Report(task, scoring, shots, seed, asked, task.answers(asked, answerer))

"""The evaluation of a model on a prompted task, and its report."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.errors import GenusError
from genus.evaluate.interval import Interval, bootstrap
from genus.prompts import PromptedTask
from genus.prompts.answerer import Answerer
from genus.prompts.catalog import load
from genus.prompts.examples import Shots, read, tables

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.evaluate.likelihood import Progress
    from genus.export.folder import LoadedModel
    from genus.prompts import Answered, Asked, TableRow


@dataclass(frozen=True)
class Report:
    """What a model answered to a prompted task."""

    task: PromptedTask
    scoring: str
    """`log-likelihood`, `pseudo-log-likelihood` or `generation`."""
    precision: str
    """Dtype of the forward pass, as in `Run.precision`."""
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
            "description": self.task.description,
            "task_hash": self.task.hash(),
            "scoring": self.scoring,
            "precision": self.precision,
            "shots": self.shots,
            "seed": self.seed,
            "rows": len(self.asked),
            "cut_prompts": self.cut,
            "metrics": {metric: asdict(found) for metric, found in self.metrics().items()},
            "files": {file: {"rows": files[file], **metrics} for file, metrics in self.by_file().items()},
            "definition": self.task.written(),
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


def evaluate_prompts(
    source: LoadedModel,
    task: PromptedTask | str | Path,
    data: Sequence[Path],
    examples: Sequence[Path] = (),
    *,
    shots: int = 0,
    seed: int = 0,
    limit: int | None = None,
    precision: str = "float32",
    cut: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Measure a pretrained model on a prompted task.

    Args:
        source: the model, on its device.
        task: the task, its name, or its file.
        data: tables of the tested rows, or a folder in which the task finds them.
        examples: tables, or a folder, of which worked examples are drawn; none: those that the task finds in the
            folders of `data`, else the tested rows themselves.
        shots: number of worked examples before each question.
        seed: of the draws of examples, and of the bootstrap.
        limit: the most rows of each table that are tested.
        precision: dtype of the forward pass, as in `Run.precision`.
        cut: whether a prompt that is longer than the model's positions loses its left end; else it is refused.
        progress: called with how much is done, and of how much.

    Raises:
        GenusError: a table or a row cannot be read as the task asks, or the model cannot answer.
        UsageError: there is no such task; more shots than examples; a prompt that is too long and may not be cut.
    """
    asked = task if isinstance(task, PromptedTask) else load(task)
    rows = read(asked, tables(data, asked.data), limit)
    others: list[TableRow] = []
    if shots:
        folders = [place for place in data if place.is_dir()] if asked.examples else []
        places = tables(examples or folders, asked.examples or "*") if examples or folders else ()
        others = read(asked, places) if places else read(asked, tables(data, asked.data))
    model = source.recipe.model
    answerer = Answerer(source.learner, model, source.tokenizer, precision=precision, cut=cut, progress=progress)
    return evaluate(answerer, asked, rows, others, shots=shots, seed=seed)


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
    return Report(task, scoring, answerer.precision, shots, seed, asked, task.answers(asked, answerer))

"""The error analysis of a fine-tuned model on a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genus.analysis import Answered, analysis_for
from genus.analysis.examples import examples
from genus.analysis.findings import Calibration, Findings, Group, Grouping
from genus.evaluate.calibration import (
    brier_score,
    equal_mass,
    equal_width,
    expected_calibration_error,
    log_probabilities,
    negative_log_likelihood,
)
from genus.evaluate.groups import equal_count
from genus.evaluate.interval import Interval, bootstrap, of_chosen
from genus.objectives import on
from genus.tasks.predict import asked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.analysis import Analysis, Likelihoods
    from genus.evaluate.metrics import Metric
    from genus.export.folder import LoadedModel
    from genus.tasks import Task
    from genus.tasks.dataset import LabeledRow
    from genus.train.run import Run

GROUPED = 2
"""Metrics of a task that are told by groups, the first ones."""


def answered(
    model: LoadedModel, task: Task, rows: Sequence[LabeledRow], path: Path, run: Run | None = None
) -> Answered:
    """Return a table with what a fine-tuned model answers to its rows.

    Args:
        model: a fine-tuned model; its device and its train or eval mode are restored.
        task: names labels and metrics, as resolved for the model.
        rows: of the table, labeled or not.
        path: the table.
        run: device and precision; None: the model's device, in float32.

    Raises:
        GenusError: the model was not fine-tuned, or a label does not occur in its training.
        UsageError: the model reads pairs and is given single texts, or the reverse.
    """
    objective, encoded, found = asked(model, task, rows, run, path)
    return Answered(model, task, objective, encoded, found, rows, path, run)


def analyze(
    given: Answered, analysis: Analysis | None = None, progress: Callable[[int, int | None], None] | None = None
) -> Findings:
    """Return the error analysis of a table that a fine-tuned model answered.

    Args:
        given: the table.
        analysis: how much is shown; None: what is usual for the task.
        progress: is told how many of the answers that are shown are explained, and how many there are.

    Raises:
        UsageError: the task writes texts.
    """
    model, task, analysis = given.model, given.task, analysis or analysis_for(given.task)
    with on(model.learner, given.device):
        shown = examples(analysis, given, analysis.decisions(given), progress)
    scores = Scores(given, analysis.draws)
    return Findings(
        model=model.recipe.name,
        table=str(given.path),
        task=type(task).__name__,
        unit=analysis.unit,
        rows=len(given.rows),
        unlabeled=int((~given.labeled).sum()),
        cut=len(given.encoded.cut),
        notes=[*given.encoded.warnings, *_unknown(given, analysis)],
        metrics={metric.name: scores.of(metric) for metric in task.metrics} if given.labeled.any() else {},
        classes=analysis.classes(given),
        numbers=analysis.numbers(given),
        groupings=groupings(analysis, given, scores),
        calibration=calibration(analysis, given),
        calibrated=None,
        examples=shown,
    )


def _unknown(given: Answered, analysis: Analysis) -> list[str]:
    """Return what cannot be told of a table without labels."""
    if given.labeled.any():
        return []
    seen = ", and the most confident and the most uncertain answers" if analysis.probable else ""
    return [f"no row has a label, so that nothing can be said of errors: there are lengths{seen}"]


@dataclass(frozen=True)
class Scores:
    """Metrics of the labeled rows of a table, with bootstrap intervals over rows."""

    given: Answered
    draws: int

    def of(self, metric: Metric, rows: Sequence[int] | None = None) -> Interval | None:
        """Return a metric of some labeled rows, None: of all; None where it is undefined for them.

        Args:
            metric: one of the task's.
            rows: their indices in the table.
        """
        truth, predicted = self.given.sides(metric)
        place = np.cumsum(self.given.labeled) - 1
        inside = np.arange(len(truth)) if rows is None else place[np.array(rows, np.int64)]
        if not len(inside) or not metric.defined(truth[inside]):
            return None
        statistic = of_chosen(metric, truth, predicted)
        if len(inside) == 1:
            return Interval(statistic(inside), None, None, 1)
        return bootstrap(lambda drawn: statistic(inside[drawn]), len(inside), draws=self.draws)


def groupings(analysis: Analysis, given: Answered, scores: Scores) -> list[Grouping]:
    """Return the scores by length, and by what else there is to group rows by."""
    lengths = analysis.lengths(given)
    by_length = {_span(lengths[rows]): rows.tolist() for rows in equal_count(lengths, analysis.groups)}
    at_once = f"in equal numbers of rows as far as lengths allow; at most {given.encoded.max_length} tokens at once"
    found = [Grouping("length in tokens", _groups(by_length, given, scores), at_once)]
    several = analysis.groupings(given).items()
    return found + [Grouping(by, _groups(rows, given, scores)) for by, rows in several if rows]


def _groups(several: dict[str, list[int]], given: Answered, scores: Scores) -> list[Group]:
    metrics, found = given.task.metrics[:GROUPED], []
    for name, rows in several.items():
        labeled = [row for row in rows if given.labeled[row]]
        values = {metric.name: scores.of(metric, labeled) for metric in metrics} if labeled else {}
        found.append(Group(name, len(rows), len(labeled), values))
    return found


def _span(values: NDArray[np.int64]) -> str:
    """Return the least and the largest of numbers, one where they are equal."""
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def calibration(analysis: Analysis, given: Answered) -> Calibration | None:
    """Return how far probabilities are from how often they are right, in the labeled rows; None without either."""
    found = analysis.likelihoods(given)
    if found is not None:
        return of_likelihoods(found, analysis.bins)
    decisions = analysis.decisions(given)
    if not analysis.probable or not decisions.known_U.any():
        return None
    confidence, right = decisions.confidence_U[decisions.known_U], decisions.right_U[decisions.known_U]
    brier = float(np.square(confidence - right).mean())
    return _calibration("the answer, among the best spans", confidence, right, analysis.bins, None, brier)


def of_likelihoods(found: Likelihoods, bins: int) -> Calibration | None:
    """Return the calibration of decisions among classes; None where no truth is known."""
    known = found.known()
    if not len(known.truth_U):
        return None
    chances = np.exp(log_probabilities(known.logits_UC))
    looked_at = np.ones(len(chances), np.int64) if known.binary else known.told_U
    confidence, right = chances[np.arange(len(looked_at)), looked_at], looked_at == known.truth_U
    nll, brier = (measure(known.logits_UC, known.truth_U) for measure in (negative_log_likelihood, brier_score))
    return _calibration(known.of, confidence, right, bins, nll, brier)


def _calibration(
    of: str, confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int, nll: float | None, brier: float
) -> Calibration:
    wide, even = equal_width(confidence, right, bins), equal_mass(confidence, right, bins)
    ece, ece_equal_mass = map(expected_calibration_error, (wide, even))
    return Calibration(of, len(right), bins, ece, ece_equal_mass, nll, brier, wide, even)

"""The tables of an error analysis, as both of its pages have them: a header, and rows of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.analysis.findings import Calibration, Classes, Confusion, Findings, Grouping, Numbers
    from genus.evaluate.interval import Interval

UNDEFINED = "undefined"
SHOWN, LARGE, LISTED = 20, 30, 10
"""Classes of a confusion matrix that is shown in part, and those over which it is; confusions that are listed."""


@dataclass(frozen=True)
class Table:
    """A table of text, whose first column names its rows."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def within(one: Interval | None) -> str:
    """Return a value with its interval."""
    return UNDEFINED if one is None else str(one)


def metrics(found: Findings) -> Table:
    """Return the metrics."""
    return Table(["metric", "value [95 % interval]"], [[name, within(one)] for name, one in found.metrics.items()])


def classes(found: Classes) -> Table:
    """Return precision, recall, F1 and support of each class, and their averages."""
    scored = [*found.report.classes, *found.report.averages]
    rows = [
        [one.name, f"{one.precision:.4f}", f"{one.recall:.4f}", f"{one.f1:.4f}", f"{one.support:,}"] for one in scored
    ]
    return Table([found.what, "precision", "recall", "F1", "support"], rows)


def labels(found: Classes) -> Table:
    """Return how often each of several labels is right, missed or told wrongly."""
    header = ["label", "told and true", "missed", "told wrongly", "rightly not told"]
    rows = [[one.label, *(f"{n:,}" for n in (one.right, one.missed, one.wrong, one.neither))] for one in found.labels]
    return Table(header, rows)


def shown(found: Confusion) -> Confusion:
    """Return a confusion matrix; of many classes, those with the most errors."""
    if len(found.classes) <= LARGE:
        return found
    wrong = [
        sum(row) + sum(line[place] for line in found.counts) - 2 * row[place] for place, row in enumerate(found.counts)
    ]
    places = sorted(sorted(range(len(wrong)), key=lambda place: -wrong[place])[:SHOWN])
    counts = [[found.counts[true][told] for told in places] for true in places]
    return type(found)([found.classes[place] for place in places], counts)


def confusions(found: Confusion) -> Table:
    """Return the most frequent confusions."""
    return Table(["truth", "told", "times"], [[true, told, f"{n:,}"] for true, told, n in found.most(LISTED)])


def numbers(found: Numbers) -> Table:
    """Return the errors of predicted numbers."""
    rows = [
        ["mean of predicted - true", f"{found.mean_error:.4g}"],
        ["mean absolute error", f"{found.mean_absolute_error:.4g}"],
        ["root mean squared error", f"{found.root_mean_squared_error:.4g}"],
        ["R²", UNDEFINED if found.explained is None else f"{found.explained:.4f}"],
    ]
    return Table(["errors", ""], rows)


def groups(found: Grouping) -> Table:
    """Return the scores of groups."""
    names = [*dict.fromkeys(name for group in found.groups for name in group.scores)]
    rows = [
        [one.name, f"{one.rows:,}", *(within(one.scores.get(name)) if one.labeled else "" for name in names)]
        for one in found.groups
    ]
    return Table([found.by, "rows", *names], rows)


def calibrations(before: Calibration, after: Calibration | None) -> Table:
    """Return the errors of probabilities, before and after a temperature."""
    both = [before] if after is None else [before, after]
    rows = [
        [f"ECE, {before.number} bins of equal width", *(f"{one.ece:.4f}" for one in both)],
        [f"ECE, {before.number} bins of equal size", *(f"{one.ece_equal_mass:.4f}" for one in both)],
        ["negative log-likelihood, nats", *("" if one.nll is None else f"{one.nll:.4f}" for one in both)],
        ["Brier score", *(f"{one.brier:.4f}" for one in both)],
    ]
    rows = [row for row in rows if row[1]]
    return Table(["error of probabilities", *(["as it is"] if after is None else ["before", "after"])], rows)


def bins(found: Calibration) -> Table:
    """Return the bins of a reliability diagram."""
    rows = [
        [f"{one.low:.3f} to {one.high:.3f}", f"{one.count:,}", f"{one.confidence:.4f}", f"{one.accuracy:.4f}"]
        for one in found.bins
    ]
    return Table(["probability", "decisions", "mean probability", "right"], rows)


def lead(found: Findings) -> list[str]:
    """Return what was analyzed, in sentences."""
    labeled = found.rows - found.unlabeled
    blind = f", {found.unlabeled:,} of them without a label" if found.unlabeled else ""
    sentences = [f"{found.task} by {found.model} on {found.table}: {found.rows:,} rows{blind}."]
    if labeled:
        sentences.append(
            f"Intervals are of a bootstrap over the {labeled:,} labeled rows: they tell how the rows were drawn, and "
            "nothing of how the model would be with another seed."
        )
    return sentences + [f"{note[:1].upper()}{note[1:]}." for note in found.notes]


METHOD = {
    "classes": "A ratio without a denominator is 0. True classes are rows, told ones columns.",
    "calibration": (
        "Of probabilities that are calibrated, those near 0.8 are right eight times in ten. ECE is the mean distance "
        "between the two (Guo et al. 2017, section 2); it is larger by chance where rows are few."
    ),
    "examples": (
        "Numbers of words are the gradient of what is named, by the word's embeddings, times these (gradient times "
        "input): what it would lose, to first order, without the word. They show what the model is sensitive to, and "
        "are no proof of why it answers."
    ),
}
"""What the numbers mean, by section."""

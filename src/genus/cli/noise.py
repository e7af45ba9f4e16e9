"""Noise of tables in `finetune` and `evaluate`: options, and how metrics fall as it grows."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from genus.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.evaluate.interval import Interval
    from genus.export.folder import LoadedModel
    from genus.tasks import Task
    from genus.tasks.dataset import LabeledRow
    from genus.tasks.report import Metrics
    from genus.text.noise import TextNoise
    from genus.train.run import Run

KINDS = "drop, add-drop-mutate, repetitions, antspeak, uppercase, random-case; KIND:RATE as in random-case:0.1"
TrainNoise = Annotated[
    str | None, typer.Option("--train-noise", metavar="KIND", help=f"Noise of the training texts: {KINDS}.")
]
EvaluationNoise = Annotated[
    str | None, typer.Option("--noise", metavar="KIND", help=f"Noise of the texts that are measured on: {KINDS}.")
]
Rates = Annotated[
    str | None,
    typer.Option(
        "--noise-rates",
        metavar="RATE,RATE,...",
        help="Measure with --noise at each of these rates; --results FILE.json writes them, with a page beside it.",
    ),
]
DRAWS = 1_000
"""Resamples of a bootstrap interval."""


class Asked(NamedTuple):
    """Which noise is asked for."""

    noise: str | None
    rates: str | None
    results: Path | None

    @property
    def given(self) -> dict[str, object]:
        """The options as they were given."""
        return {"--noise": self.noise, "--noise-rates": self.rates}


def of_splits(train: str | None, measured: str | None) -> "dict[str, TextNoise]":
    """Return the noise of each split.

    Raises:
        UsageError: there is no such noise.
    """
    from genus.text.noise import parsed

    found = {} if train is None else {"train": parsed(train, "--train-noise")}
    if measured is not None:
        found |= dict.fromkeys(("validation", "test"), parsed(measured))
    return found


def noised_rows(rows: "list[LabeledRow]", task: "Task", asked: Asked) -> "list[LabeledRow]":
    """Return the rows of a table with the noise that is asked for.

    Raises:
        UsageError: there is none such, or it moves what labels stand at.
    """
    from genus.tasks.noised import check_noise, noised
    from genus.text.noise import parsed

    if asked.noise is None:
        if asked.rates is not None:
            raise UsageError("--noise-rates: are of a noise; name it with --noise")
        return rows
    noise = parsed(asked.noise)
    check_noise(noise, task)
    return noised(rows, noise)


def curve(
    source: "LoadedModel", task: "Task", rows: "Sequence[LabeledRow]", path: Path, asked: Asked, run: "Run"
) -> "Metrics":
    """Return each metric at each rate of the noise; write them with their intervals, if they are to be written.

    Raises:
        UsageError: a rate is none, or no row has a label.
    """
    from genus.cli.output import Counter
    from genus.tasks.noised import check_noise
    from genus.text.noise import parsed

    if asked.noise is None:
        raise UsageError("--noise-rates: are of a noise; name it with --noise")
    if all(row.label is None for row in rows):
        raise UsageError(f"{path}: no row has a label, and nothing can be measured")
    noise, rates = parsed(asked.noise), _rates(asked.rates or "")
    check_noise(noise, task)
    count = Counter("measuring", "rates")
    found: dict[float, dict[str, Interval | None]] = {}
    for number, rate in enumerate(rates, 1):
        found[rate] = _measured(source, task, rows, path, replace(noise, rate=rate), run)
        count(number, len(rates))
    if asked.results is not None:
        _write(asked.results, source.recipe.name, path, noise, found)
    return {
        f"{name} at {rate:g}": None if one is None else one.mean
        for rate, metrics in found.items()
        for name, one in metrics.items()
    }


def _rates(told: str) -> list[float]:
    """Return rates in ascending order (UsageError: one is none)."""
    try:
        found = sorted({float(one) for one in told.split(",")})
    except ValueError:
        found = [-1.0]
    if not all(0 <= rate <= 1 for rate in found):
        raise UsageError(f"--noise-rates: expected shares from 0 to 1 with commas between them, got {told!r}")
    return found


def _measured(
    source: "LoadedModel", task: "Task", rows: "Sequence[LabeledRow]", path: Path, noise: "TextNoise", run: "Run"
) -> "dict[str, Interval | None]":
    """Return each metric of the rows with noise, with its bootstrap interval over rows."""
    from genus.analysis.analyze import Scores, answered
    from genus.tasks.noised import noised

    given = answered(source, task, noised(rows, noise), path, run)
    scores = Scores(given, DRAWS)
    return {metric.name: scores.of(metric) for metric in task.metrics}


def _write(
    file: Path, model: str, table: Path, noise: "TextNoise", found: "dict[float, dict[str, Interval | None]]"
) -> None:
    """Write the curves as JSON, and as a page beside it."""
    from genus.files import write_json, write_text

    told: dict[str, Any] = {
        "model": model,
        "table": str(table),
        "noise": noise.to_json(),
        "rates": [
            {"rate": rate, "metrics": {name: None if one is None else asdict(one) for name, one in metrics.items()}}
            for rate, metrics in found.items()
        ],
    }
    write_json(file, told)
    write_text(file.with_suffix(".html"), page(model, table, noise, found))


def page(model: str, table: Path, noise: "TextNoise", found: "dict[float, dict[str, Interval | None]]") -> str:
    """Return the page: a curve of each metric, and the numbers."""
    from genus.cli.analysis_page import figure, sectioned
    from genus.cli.analysis_page import table as as_table
    from genus.cli.analysis_tables import Table, within
    from genus.cli.curves import STYLE, Series, curves

    names = list(dict.fromkeys(name for metrics in found.values() for name in metrics))
    drawn = []
    for name in names:
        points = [(rate, one) for rate, metrics in found.items() if (one := metrics[name]) is not None]
        if points:
            shown = curves([Series(name, points)], f"rate of {noise.in_words}", name)
            drawn.append(figure(shown, f"{name}, with 95 % intervals of a bootstrap over rows."))
    rows = [[f"{rate:g}", *(within(metrics[name]) for name in names)] for rate, metrics in found.items()]
    lead = [f"{model} on {table}, its texts with {noise.in_words}: each character is chosen with the rate of noise."]
    sections = [("Curves", "".join(drawn)), ("Numbers", as_table(Table(["rate", *names], rows)))]
    return sectioned(f"Noise: {noise.in_words}", lead, sections, STYLE)

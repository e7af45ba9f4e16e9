"""The command `analyze`: which errors a fine-tuned model makes on a table, and how far its probabilities hold."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genus.cli import analysis_tables
from genus.cli.folders import model_folder, read_model
from genus.cli.options import AsJson, Choices, Folder, MetricName, Out, Running, TaskSettings, chosen_run
from genus.cli.output import Counter, columns, document
from genus.cli.task import chosen_task
from genus.cli.use import Label, TaskName, Texts
from genus.errors import UsageError
from genus.files import write_json, write_text

if TYPE_CHECKING:
    from genus.analysis import Answered
    from genus.analysis.findings import Calibrated, Findings
    from genus.analysis.temperature import Scaling
    from genus.export.folder import LoadedModel
    from genus.tasks import Task
    from genus.train.run import Run

JSON, TEXT, PAGE = "analysis.json", "analysis.md", "analysis.html"
"""What the command writes."""


def analyze(
    model: Folder,
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A table, as of fine-tuning.", show_default=False)],
    out: Out,
    text: Texts = [],
    label: Label = None,
    task: TaskName = None,
    choices: Choices = [],
    metric: MetricName = [],
    task_settings: TaskSettings = [],
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="Fit a temperature on this table, of rows that the model did not learn from, and write the model with "
            "it to FOLDER/model: same answers, other probabilities.",
        ),
    ] = None,
    settings: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="NAME=NUMBER", help="How much is shown: mistakes=50, right, groups, bins, draws."
        ),
    ] = [],
    running: Running = [],
    as_json: AsJson = False,
) -> None:
    """Look at the errors of a fine-tuned model.

    Metrics with intervals, confusions, scores by class and by length, calibration, the most confident mistakes with
    what the model reads in them: as analysis.json, analysis.md and analysis.html in FOLDER.
    """
    from genus import catalog
    from genus.analysis import analysis_for
    from genus.analysis.analyze import analyze
    from genus.analysis.temperature import Scaling, check_labels
    from genus.run_folder import RunFolder

    run = chosen_run(running, precision="float32")
    source = read_model(model)
    chosen = chosen_task(source, task, text, label, choices, None, metric, task_settings)
    analysis = catalog.overridden(analysis_for(chosen), settings, "--set")
    _check_out(out, model, writes_model=calibrate is not None)
    given = _answered(source, chosen, table, run)
    if calibrate is not None:
        check_labels(given)
    scaling = None if calibrate is None else Scaling(_answered(source, chosen, calibrate, run), analysis)
    with RunFolder(out).lock():
        found = analyze(given, analysis, Counter("explaining", ""))
        if scaling is not None:
            found = replace(found, calibrated=_scaled(scaling, given, out / "model", model))
        _write(out, found)
    if as_json:
        document(found.to_json())
    else:
        _print(found, out)


def _print(found: "Findings", out: Path) -> None:
    """Print the metrics, or what there is without labels, and where the rest is written."""
    for note in found.notes if not found.metrics else []:
        print(note)
    if found.metrics:
        print(columns(["metric", "value [95 % interval]"], analysis_tables.metrics(found).rows))
    if found.calibration is not None:
        after = "" if found.calibrated is None else f", {found.calibrated.after.ece:.4f} after calibration"
        print(f"expected calibration error {found.calibration.ece:.4f}{after}")
    print(f"written to {out / PAGE}, {TEXT} and {JSON}")


def _answered(source: "LoadedModel", task: "Task", path: Path, run: "Run") -> "Answered":
    """Return the rows of a table, labeled or not, with the model's answers."""
    from genus.analysis.analyze import answered
    from genus.tasks.dataset import read, without_placeholders
    from genus.tasks.predict import objective_of

    objective = objective_of(source, task)
    task = task.told_by(path, objective.classes)
    rows = without_placeholders(read(path, task, labeled=False), objective, path)
    return answered(source, task, rows, path, run)


def _check_out(out: Path, model: Path, *, writes_model: bool) -> None:
    """Refuse a path that is no folder, and a folder whose model is another than the one that is calibrated.

    Raises:
        UsageError: it is such.
    """
    from genus.run_folder import RunFolder

    for part in (out, *out.parents):
        if part.exists() and not part.is_dir():
            raise UsageError(f"{out}: {part} is a file, not a folder; take another folder")
    own = (out / "model").resolve() == model_folder(model).resolve()
    earlier = (out / JSON).is_file() and RunFolder(out).content() == "other files"
    if writes_model and (out / "model").exists() and not own and not earlier:
        raise UsageError(f"--out: {out / 'model'} is another model, and would be replaced; take another folder")


def _scaled(scaling: "Scaling", given: "Answered", folder: Path, model: Path) -> "Calibrated":
    """Return what the temperature makes of the calibration; write the model with it, and what its card said."""
    from genus.export.card import notes_in
    from genus.export.files import replaced_by_model

    card = model_folder(model) / "README.md"
    notes = notes_in(card.read_text(encoding="utf-8")) if card.is_file() else ""
    return scaling.applied(given, folder, notes, replaced_by_model(folder))


def _write(out: Path, found: "Findings") -> None:
    """Write the three files, each beside the old one, whose place it takes."""
    from genus.cli.analysis_page import page
    from genus.cli.analysis_text import written

    write_json(out / JSON, found.to_json())
    write_text(out / TEXT, written(found))
    write_text(out / PAGE, page(found))

"""The command `attack`: how far texts must change until a classifier errs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genus.cli.folders import read_model
from genus.cli.options import AsJson, Folder, Out, Running, TaskSettings, chosen_run
from genus.cli.output import Counter, columns, document
from genus.cli.task import attack_of, chosen_task
from genus.cli.use import Label, TaskName, Texts
from genus.errors import UsageError, say
from genus.files import write_json, write_text

if TYPE_CHECKING:
    from genus.attack import Attack
    from genus.attack.models import Models
    from genus.attack.outcomes import Outcome, Report
    from genus.attack.table import AttackedTable
    from genus.attack.target import Target
    from genus.attack.transfer import Transfer
    from genus.tasks.dataset import LabeledRow
    from genus.train.run import Run

JSON, TEXT, PAGE = "attack.json", "attack.md", "attack.html"
"""What the command writes, beside what it goes on from."""
Kind = Annotated[str, typer.Option("--attack", metavar="KIND", help="gbda (by gradients) or substitution.")]
AttackSettings = Annotated[
    list[str],
    typer.Option(
        "--attack-set", metavar="PATH=VALUE", help="Change one choice of it, such as iterations=50; repeatable."
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="Attack the first N labeled rows.")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Of all draws; as --attack-set seed=N.")]
Fluency = Annotated[
    Path | None,
    typer.Option(
        metavar="MODEL", help="A causal language model; in gbda of the same vocabulary, and held to its likelihood."
    ),
]
Encoder = Annotated[
    Path | None,
    typer.Option(metavar="MODEL", help="Says how similar texts are; by default --fluency's, or the classifier."),
]
Layer = Annotated[int, typer.Option(metavar="N", help="Of its states: 0 embeddings, -1 the last layer.")]
Masked = Annotated[Path | None, typer.Option(metavar="MODEL", help="A masked language model, which proposes words.")]
Other = Annotated[
    Path | None,
    typer.Option(metavar="MODEL", help="Another classifier, asked about samples of what was found until it errs."),
]
Samples = Annotated[int, typer.Option(min=1, metavar="N", help="Most samples of --transfer.")]


def attack(
    model: Folder,
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A table with labels.", show_default=False)],
    out: Out,
    kind: Kind = "gbda",
    settings: AttackSettings = [],
    limit: Limit = None,
    seed: Seed = None,
    fluency: Fluency = None,
    encoder: Encoder = None,
    layer: Layer = -1,
    masked: Masked = None,
    transfer: Other = None,
    transfer_samples: Samples = 1000,
    text: Texts = [],
    label: Label = None,
    task: TaskName = None,
    task_settings: TaskSettings = [],
    running: Running = [],
    as_json: AsJson = False,
) -> None:
    """Attack a classifier: change texts until it errs.

    Accuracy before and after, how similar and how fluent the changed texts are, how many tokens changed, queries and
    seconds, by class, with examples: as attack.json, attack.md and attack.html in FOLDER. The same command goes on
    where it was stopped.
    """
    from genus.attack.table import AttackedTable
    from genus.attack.target import Target
    from genus.run_folder import RunFolder
    from genus.train.world import device_of_run

    check_folder(out)
    run, chosen = chosen_run(running, precision="float32"), attack_of(kind, settings, seed)
    source = read_model(model)
    own = chosen_task(source, task, text, label, [], None, [], task_settings)
    target = Target.of(source, own, str(model), run.precision)
    rows, notes = _rows(target, table)
    several = {"encoder": encoder, "fluency": fluency, "masked": masked}
    models, moved = _models(target, rows, chosen, several, layer), _transfer(target, transfer, transfer_samples, run)
    notes += _without(models)
    beside = [] if moved is None else [moved.other.model]
    with RunFolder(out).lock(), models.on(device_of_run(run), *beside):
        attacked = AttackedTable(models, chosen, rows, table, moved)
        found = attacked.outcomes(out, limit, Counter("attacking", ""))
    folders = {name: str(folder) for name, folder in {**several, "transfer": transfer}.items() if folder is not None}
    report = _report(str(model), attacked, found, notes, folders)
    _write(out, report)
    if as_json:
        document(report.to_json())
    else:
        _print(report, out)


def check_folder(out: Path) -> None:
    """Refuse a path that is no folder.

    Raises:
        UsageError: a part of it is a file.
    """
    for part in (out, *out.parents):
        if part.exists() and not part.is_dir():
            raise UsageError(f"{out}: {part} is a file, not a folder; take another folder")


def _report(
    model: str, attacked: "AttackedTable", found: list["Outcome"], notes: list[str], folders: dict[str, str]
) -> "Report":
    """Return the report on what was found."""
    from genus.attack.outcomes import Report

    other = folders.pop("transfer", None)
    return Report(
        model=model, table=str(attacked.path), attack=attacked.attack.written(), models=folders, notes=notes,
        outcomes=found, classes=attacked.models.target.classes, transfer=other,
    )  # fmt: skip


def _rows(target: "Target", path: Path) -> tuple[list["LabeledRow"], list[str]]:
    """Return the labeled rows of a table, and what is to be said of them, which is said.

    Raises:
        GenusError: the table cannot be read, or has no column of labels.
        UsageError: no row has a label, or none a text.
    """
    from genus.tasks.dataset import read, without_placeholders

    task = target.task.told_by(path, target.classes)
    rows = without_placeholders(read(path, task), target.objective, path)
    labeled = [row for row in rows if row.label is not None]
    if not labeled:
        raise UsageError(f"{path}: no row has a label, without which nothing can be said of errors")
    target.check_texts(labeled)
    encoded = target.encoded([row.texts for row in labeled])
    if encoded.is_empty:
        raise UsageError(f"{path}: {encoded.nothing_left}; there is nothing to change")
    notes = [f"{path}: {warning}" for warning in encoded.warnings]
    for note in notes:
        say(note)
    return labeled, notes


def _models(
    target: "Target", rows: list["LabeledRow"], chosen: "Attack", folders: dict[str, Path | None], layer: int
) -> "Models":
    """Return the models of the attack; idf weights are counted over the table's texts that may change."""
    from genus.attack.models import Models

    read = {folder: read_model(folder) for folder in {*folders.values()} if folder is not None}
    several = {name: None if folder is None else read[folder] for name, folder in folders.items()}
    references = [row.texts[chosen.of_pair(len(row.texts))] for row in rows]
    models = Models.of(target, references, **several, layer=layer)
    chosen.check(models)
    return models


def _transfer(target: "Target", folder: Path | None, samples: int, run: "Run") -> "Transfer | None":
    """Return the classifier that the attack is transferred to; None where there is none."""
    from genus.attack.target import Target
    from genus.attack.transfer import Transfer
    from genus.tasks.predict import objective_of
    from genus.tasks.remembered import usual_task

    if folder is None:
        return None
    model = read_model(folder)
    other = Target.of(model, usual_task(model, objective_of(model)), f"--transfer {folder}", run.precision)
    found = Transfer(other, samples)
    found.check(target, folder)
    return found


def _without(models: "Models") -> list[str]:
    """Return what is not held to, as a model for it is missing, which is said."""
    if models.fluency is not None:
        return []
    note = "no --fluency: changed texts are not held to be fluent, and their perplexity is not told"
    say(note)
    return [note]


def _write(out: Path, report: "Report") -> None:
    """Write the three files, each beside the old one, whose place it takes."""
    from genus.cli.attack_page import page, written

    write_json(out / JSON, report.to_json())
    write_text(out / TEXT, written(report))
    write_text(out / PAGE, page(report))


def _print(report: "Report", out: Path) -> None:
    """Print the accuracies and how similar texts are, and where the rest is written."""
    from genus.cli import attack_page

    for found in (attack_page.accuracies(report), attack_page.distributions(report)):
        print(columns(found.header, found.rows))
    print(f"written to {out / PAGE}, {TEXT} and {JSON}")

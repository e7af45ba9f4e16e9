"""Commands for smaller models of a task: `quantize` and `prune`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genus.cli.folders import model_folder, read_model
from genus.cli.options import AsJson, Folder, MetricName, Out, Running, chosen_run
from genus.cli.output import columns, document
from genus.errors import UsageError, near

if TYPE_CHECKING:
    from genus.compress.measure import Worth
    from genus.tasks import Task

KINDS = ("int8", "int8-weights", "int4-weights")
"""How weights may be quantized."""
Kind = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="KIND",
        help="int8: weights and activations of 8 bits; int8-weights, int4-weights: weights of 8 or 4 bits.",
    ),
]
Texts = Annotated[list[str], typer.Option("--text", metavar="COLUMN", help="The column of the text; twice, of a pair.")]
Label = Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of the label.")]
TaskName = Annotated[str | None, typer.Option("--task", help="A task of GLUE, for its columns and metrics.")]
Keep = Annotated[
    str | None, typer.Option(metavar="KEEP", help="Units of each layer to keep: a fraction (0.5) or a number.")
]


def quantize(
    model: Folder,
    out: Out,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A table of labeled rows, by which the score may fall.")
    ] = None,
    to: Kind = "int8",
    max_drop: Annotated[
        float | None,
        typer.Option(min=0.0, help="Most that the first metric may fall by, else nothing is written.  [default: 0.01]"),
    ] = None,
    task: TaskName = None,
    text: Texts = [],
    label: Label = None,
    metric: MetricName = [],
    running: Running = [],
    as_json: AsJson = False,
) -> None:
    """Write a fine-tuned model with weights of 8 or 4 bits, for CPUs.

    It is a graph that `genus evaluate` reads. Score, time and size before and after are measured with `--data`.
    """
    from genus.compress.quantize import BlockWeights, DynamicInt8, quantize
    from genus.export.files import replaced_by_model
    from genus.run_folder import RunFolder

    if to not in KINDS:
        raise UsageError(f"--to: there is no {to!r:.40}.{near(to, list(KINDS))}")
    old, source = replaced_by_model(out), model_folder(model)
    choice = DynamicInt8() if to == "int8" else BlockWeights(bits=8 if to == "int8-weights" else 4)
    run = chosen_run(running, precision="float32")
    asked = None if data is None else _task(source, task, text, label, metric)
    with RunFolder(out).lock():
        done = quantize(source, out, choice, run=run, data=data, task=asked, max_drop=max_drop, replaced=old)
    if as_json:
        document(done.to_json())
        return
    if done.before is not None and done.after is not None:
        print(_beside(done.before, done.after))
    else:
        print("no table was given with --data: neither score nor time is measured")
    print(f"written to {out}")


def prune(
    model: Folder,
    data: Annotated[
        Path,
        typer.Option(metavar="DATA", help="A table by whose loss importance is measured; or a folder with train and "
                     "validation tables.", show_default=False),
    ],
    out: Out,
    heads: Keep = None,
    feedforward: Keep = None,
    validation: Annotated[Path | None, typer.Option(metavar="FILE", help="A table for scores, else --data.")] = None,
    task: TaskName = None,
    text: Texts = [],
    label: Label = None,
    metric: MetricName = [],
    running: Running = [],
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Write a fine-tuned model without its least important heads and feed-forward units.

    Fine-tune the result to regain what is lost.
    """
    from genus.compress.prune import prune
    from genus.export.files import replaced_by_model
    from genus.run_folder import RunFolder
    from genus.tasks.dataset import Files

    old, source = replaced_by_model(out), model_folder(model)
    run = chosen_run(running, precision="float32")
    asked = _task(source, task, text, label, metric)
    files = Files.find(data, (*asked.columns, *asked.label_columns)) if data.is_dir() else Files(data)
    with RunFolder(out).lock():
        done = prune(
            source, out, files.train, run=run, heads=heads, feedforward=feedforward, task=asked, replaced=old,
            validation=validation or files.validation,
        )  # fmt: skip
    if as_json:
        document(done.to_json())
        return
    before, after = (f"{count:,}" for count in done.parameters)
    print(_beside(done.before, done.after, [["parameters", before, after]]))
    print(f"written to {out}")


def _task(source: Path, name: str | None, text: list[str], label: str | None, metric: list[str]) -> "Task":
    """Return the task to measure: by name, or by the objective of the model's head."""
    from genus.cli.task import chosen_task

    return chosen_task(read_model(source), name, text, label, [], None, metric, [])  # type: ignore[no-any-return]


def _beside(before: "Worth", after: "Worth", more: Sequence[list[str]] = ()) -> str:
    """Return both side by side."""
    rows = [[name, _told(before.scores[name]), _told(after.scores[name])] for name in before.scores]
    for size, old in before.milliseconds.items():
        texts = "one text" if size == "1" else f"{size} texts"
        rows.append([f"ms per text, {texts} at once", f"{old:.3g}", f"{after.milliseconds[size]:.3g}"])
    rows += [["MB", f"{before.megabytes:.1f}", f"{after.megabytes:.1f}"], *more]
    return columns(["", "before", "after"], rows)


def _told(value: Any) -> str:
    return "undefined" if value is None else f"{value:.4f}"

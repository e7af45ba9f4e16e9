"""Evaluation by prompt: `evaluate --prompts`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genus.cli.folders import read_model
from genus.cli.output import Counter, columns, document
from genus.errors import UsageError, say

if TYPE_CHECKING:
    from genus.prompts.evaluation import Report
    from genus.train.run import Run

Prompts = Annotated[
    str | None,
    typer.Option(
        "--prompts", metavar="TASK",
        help="Ask a pretrained model in words: arc_easy, arc_challenge, blimp, lambada, sciq, xcopa_th, or a task file "
        "(.toml, .json). DATA: the tables, or their folder.",
    ),
]  # fmt: skip
TaskFolder = Annotated[
    Path | None, typer.Option("--tasks", metavar="FOLDER", help="With --prompts: task files of your own, by name.")
]
ShotNumber = Annotated[int, typer.Option(help="With --prompts: worked examples before each question.")]
Examples = Annotated[
    list[Path],
    typer.Option(
        "--examples", metavar="TABLE",
        help="With --prompts: the table or folder of worked examples; repeatable. None: the task's in the folder, else "
        "the tested rows.",
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option(help="With --prompts: of the draws of examples, and of the bootstrap.")]
Limit = Annotated[int | None, typer.Option(metavar="ROWS", help="With --prompts: the most rows of each table.")]
CutPrompts = Annotated[
    bool, typer.Option("--cut-prompts", help="With --prompts: drop the left end of a prompt that is too long.")
]
Results = Annotated[
    Path | None, typer.Option(metavar="FILE", help="With --prompts: write the results as JSON into this file.")
]


def evaluate_prompts(
    model: Path,
    data: Sequence[str],
    task: str,
    folder: Path | None,
    run: "Run",
    *,
    shots: int,
    examples: Sequence[Path],
    seed: int,
    limit: int | None,
    cut: bool,
    results: Path | None,
    answers: Path | None,
    as_json: bool,
) -> None:
    """Measure a model on a prompted task; print the metrics, and write what is asked for."""
    from genus.files import write_json, write_text
    from genus.prompts.catalog import load
    from genus.prompts.evaluation import evaluate_prompts
    from genus.train.world import device_of_run

    if limit is not None and limit < 1:
        raise UsageError(f"--limit: expected at least 1, got {limit}")
    if seed < 0:
        raise UsageError(f"--seed: expected at least 0, got {seed}")
    if examples and not shots:
        raise UsageError("--examples: are for worked examples; say how many with --shots")
    chosen = load(task, folder)
    source = read_model(model)
    source.learner.to(device_of_run(run))
    report = evaluate_prompts(
        source, chosen, [Path(one) for one in data], examples, shots=shots, seed=seed, limit=limit,
        precision=run.precision, cut=cut, progress=Counter("answering", ""),
    )  # fmt: skip
    recipe = source.recipe
    told = {"model": str(model), "recipe": recipe.name, "recipe_hash": recipe.hash(), **report.to_json()}
    if report.cut:
        say(f"{report.cut:,} of {len(report.asked):,} prompts are longer than the model's positions: their left end is "
            "dropped")  # fmt: skip
    if results is not None:
        write_json(results, told)
    if answers is not None:
        write_text(answers, report.lines())
    if as_json:
        document(told)
    else:
        print(_table(report, told))


def _table(report: "Report", told: dict[str, Any]) -> str:
    """Return the metrics as a table, and below it those of each file, if there are several."""
    metrics = told["metrics"]
    lines = [[name, f"{one['mean']:.4f}", f"{one['low']:.4f} to {one['high']:.4f}"] for name, one in metrics.items()]
    head = f"{told['task']} version {told['version']}, {told['rows']:,} rows, {told['shots']} shots, {told['scoring']}"
    whole = f"{head}\n{columns(['metric', '', '95 % interval'], lines)}"
    if len(told["files"]) == 1:
        return whole
    files = [[Path(file).name, *(f"{one[name]:.4f}" for name in metrics)] for file, one in told["files"].items()]
    return f"{whole}\n\n{columns(['file', *metrics], files)}"

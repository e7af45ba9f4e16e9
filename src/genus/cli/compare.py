"""The command `compare`: rows on one text at one budget, or a named study of a paper, with intervals and ranks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genus.cli.options import AsJson, Running, Settings, chosen_run
from genus.cli.output import columns, document, scaled
from genus.errors import GenusError, UsageError, near, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.study.comparison import Comparison, Study
    from genus.study.entries import Entry
    from genus.study.measurements import Measurement
    from genus.study.named import NamedStudy
    from genus.study.results import Results

JSON, MARKDOWN, PAGE = "results.json", "report.md", "index.html"
RUN: dict[str, Any] = {
    "held_out": 0.01, "keep": 1, "evaluate_batches": 40, "workers": 0, "tracker": "none", "checkpoint_every": 500,
}  # fmt: skip
"""Run settings that suit many short runs; the text that all rows are measured on is none of `held_out`."""


Rows = Annotated[
    list[str],
    typer.Argument(
        metavar="ROW...",
        help="Rows: a member, .json or .toml overlay, with changes after commas: bert/mini,model.layers=6; "
        "with a name of its own: deep=bert/mini,model.layers=6.",
        show_default=False,
    ),
]
Text = Annotated[list[str], typer.Option("--text", metavar="TEXT", help="Text for all rows; repeatable.")]
Amount = Annotated[
    str | None, typer.Option("--budget", metavar="AMOUNT", help="Of each row: 1e15flops, 300000tokens or 600seconds.")
]
Where = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where everything goes.")]
Tables = Annotated[
    list[str],
    typer.Option(
        "--tasks", metavar="FOLDER", help="A labeled table: a linear probe of it, and fine-tuning; repeatable."
    ),
]
Pairs = Annotated[
    str | None, typer.Option("--blimp", metavar="FOLDER", help="Minimal pairs of sentences: the folder of BLiMP.")
]
Measures = Annotated[
    list[str],
    typer.Option(
        "--measure",
        metavar="NAME",
        help="held-out-bits (always, unless others are named here), minimal-pairs, linear-probe, full-fine-tuning "
        "or few-shot, with choices after commas: few-shot,table=FOLDER,shots=8; repeatable.",
    ),
]
Rates = Annotated[
    str | None, typer.Option("--tune-lr", metavar="LR,LR", help="Learning rates that are tried for each row first.")
]
RateShare = Annotated[
    float, typer.Option("--tune-share", min=0.0, max=1.0, help="Of the budget, for each rate that is tried.")
]
OneTokenizer = Annotated[
    Path | None,
    typer.Option("--tokenizer", metavar="FOLDER", help="One tokenizer for all rows, instead of their own kinds."),
]
StudyName = Annotated[
    str | None, typer.Option("--study", metavar="NAME", help="The rows of a paper's table: a name, or a .toml file.")
]


def compare(
    recipes: Rows = [],
    text: Text = [],
    budget: Amount = None,
    out: Where = Path("comparison"),
    seeds: Annotated[int, typer.Option(min=1, help="Pretrainings of each row.")] = 3,
    tasks: Tables = [],
    blimp: Pairs = None,
    measure: Measures = [],
    settings: Settings = [],
    rates: Rates = None,
    share: RateShare = 0.1,
    tokenizer: OneTokenizer = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Processes at a time.")] = 1,
    study: StudyName = None,
    studies: Annotated[bool, typer.Option("--studies", help="List the named studies and what they cost.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Write the report of what is done, and do nothing.")] = False,
    running: Running = [],
    as_json: AsJson = False,
) -> None:
    """Compare rows fairly: one text, one budget, several seeds, random weights beside them, intervals, ranks with ties.

    What is done is not done again. The results stand on a page, index.html.
    """
    if studies:
        _list_studies(as_json)
        return
    named = _study(study)
    rows = [*_named_rows(named, settings), *(row_of(one, settings) for one in recipes)]
    asked = _asked(
        rows, text, budget or (named.budget if named else None), out, seeds,
        [*_measurements(measure), *_shorthand(tasks, blimp)], running, jobs, _rates(rates), share, tokenizer,
    )  # fmt: skip
    found = _reported(asked, named) if report else _carried_out(asked, named)
    if as_json:
        document(found.to_json())
    else:
        _tell(found, out)
    if failed := {name: why for name, why in found.missing.items() if why != "not finished"}:
        raise GenusError(f"{len(failed)} jobs failed: {'; '.join(f'{name}: {why}' for name, why in failed.items())}")


def _asked(
    rows: "list[Entry]",
    text: list[str],
    budget: str | None,
    out: Path,
    seeds: int,
    measurements: "list[Measurement]",
    running: list[str],
    jobs: int,
    rates: tuple[float, ...],
    share: float,
    tokenizer: Path | None,
) -> "Comparison":
    from genus.study.comparison import Comparison
    from genus.study.entries import budget_of

    if not rows:
        raise UsageError("name the rows: recipes such as bert/mini and genus/mini, or --study NAME (see --studies)")
    if not text:
        raise UsageError("--text: name the text that all rows are trained on")
    if budget is None:
        raise UsageError("--budget: name one for each row, such as 1e15flops, 300000tokens or 600seconds")
    if rates and not share:
        raise UsageError("--tune-share: expected a share above 0")
    return Comparison(
        tuple(rows), budget_of(budget), tuple(range(seeds)), tuple(measurements), tuple(text), out,
        chosen_run(running, **RUN), jobs, rates, share, tokenizer,
    )  # fmt: skip


def _carried_out(asked: "Comparison", named: "NamedStudy | None") -> "Results":
    """Do what is not done; write the report whenever a job has ended."""
    from genus.run_folder import RunFolder
    from genus.study.comparison import carried_out
    from genus.study.results import results

    def ended(study: "Study", failed: dict[str, str]) -> None:
        write(results(study, failed, named), asked.folder)

    with RunFolder(asked.folder).lock():
        study, failed = carried_out(asked, ended)
        found = results(study, failed, named)
        write(found, asked.folder)
    return found


def _reported(asked: "Comparison", named: "NamedStudy | None") -> "Results":
    from genus.study.comparison import finished
    from genus.study.results import results

    found = results(finished(asked), {}, named)
    write(found, asked.folder)
    return found


def write(found: "Results", folder: Path) -> None:
    """Write JSON, Markdown and the page."""
    from genus.cli.compare_page import page
    from genus.cli.compare_tables import report
    from genus.files import write_json, write_text

    write_json(folder / JSON, found.to_json())
    write_text(folder / MARKDOWN, report(found))
    write_text(folder / PAGE, page(found))


def pieces(text: str) -> list[str]:
    """Return the parts of a text between commas that stand in no bracket and no quotes."""
    found, depth, quote = [""], 0, ""
    for letter in text:
        if quote or letter in "\"'":
            quote = "" if letter == quote else quote or letter
        else:
            depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth <= 0 and not quote:
            found.append("")
        else:
            found[-1] += letter
    return [part.strip() for part in found]


def row_of(text: str, settings: "Sequence[str]" = ()) -> "Entry":
    """Return the row that a text names: `[NAME=]RECIPE[,path=value]...`, with settings of all rows before its own.

    Raises:
        UsageError: there is no such recipe, or it has no such choice.
    """
    from genus import catalog
    from genus.study.entries import Entry

    first, *own = pieces(text)
    name, separator, recipe = first.partition("=")
    try:
        row = catalog.load(recipe if separator else first, [*settings, *own])
    except UsageError as error:
        raise UsageError(f"{text}: {str(error).removeprefix('--set ')}") from None
    return Entry(name if separator else text, row, tuple(own))


def measurement_of(text: str) -> "Measurement":
    """Return the measurement that a text names: `NAME[,path=value]...`.

    Raises:
        UsageError: there is none of that name, or it has no such choice.
    """
    from dataclasses import MISSING

    from genus.part.choices import choices_of
    from genus.part.overlay import merged, nested
    from genus.part.reading import read
    from genus.part.slots import slots_of
    from genus.study.measurements import Measurement, spelled

    name, *settings = pieces(text)
    kinds: dict[str, Any] = {spelled(kind): part for kind, part in slots_of(Measurement).items()}  # type: ignore[type-abstract]
    if name not in kinds:
        raise UsageError(f"--measure: there is no measurement {name!r}.{near(name, list(kinds))}")
    usual = choices_of(kinds[name]).items()
    old = {key: one.type.write(one.default) for key, one in usual if one.default is not MISSING}
    values = dict(setting.partition("=")[::2] for setting in settings)
    try:
        changes = nested({path.strip(): value.strip() for path, value in values.items()})
        table = merged(Measurement, {"kind": kinds[name].__name__, **old}, changes)
        return read(Measurement, table)  # type: ignore[type-abstract]  # a slot is abstract
    except UsageError as error:
        raise UsageError(f"--measure {text}: {error}") from None


def _measurements(texts: list[str]) -> "list[Measurement]":
    return [measurement_of(text) for text in texts or ["held-out-bits"]]


def _shorthand(tasks: list[str], blimp: str | None) -> "list[Measurement]":
    from genus.study.measurements.likelihood import MinimalPairs
    from genus.study.measurements.tables import FullFineTuning, LinearProbe

    pairs: list[Measurement] = [] if blimp is None else [MinimalPairs(folder=blimp)]
    return pairs + [kind(table=table) for table in tasks for kind in (LinearProbe, FullFineTuning)]


def _rates(text: str | None) -> tuple[float, ...]:
    """Return the learning rates of `--tune-lr`."""
    try:
        found = tuple(float(part) for part in text.split(",")) if text is not None else ()
    except ValueError:
        found = (0.0,)
    if any(not 0 < rate < float("inf") for rate in found) or len({*found}) < len(found):
        raise UsageError(f"--tune-lr {text}: expected different numbers above 0, such as 1e-3,2e-3")
    return found


def _study(name: str | None) -> "NamedStudy | None":
    from genus.study import named

    return None if name is None else named.load(name)


def _named_rows(study: "NamedStudy | None", settings: "Sequence[str]" = ()) -> "list[Entry]":
    """Return the rows of a study, with its settings of all, each one's own, and those of the command line."""
    from genus import catalog
    from genus.study.entries import Entry
    from genus.study.named import expanded

    found = []
    for row in study.rows if study else ():
        assert study is not None
        try:
            streams = catalog.load(row.recipe).model.streams
            own = expanded([*study.settings, *row.settings], streams)
            recipe = catalog.load(row.recipe, [*own, *settings])
        except UsageError as error:
            raise UsageError(f"--study {study.name}, row {row.name}: {error}") from None
        found.append(Entry(row.name, recipe, tuple(row.settings), row.paper, row.note))
    return found


def _list_studies(as_json: bool) -> None:
    """Print the named studies with their rows, their papers and what they cost with three seeds."""
    from genus.cost import stage_cost
    from genus.study import named
    from genus.study.entries import budget_of

    found = []
    lines = []
    for name in named.names():
        study = named.load(name)
        budget = budget_of(study.budget)
        rows = _named_rows(study)
        each = [stage_cost(row.recipe, row.recipe.stages[0]).flops_training for row in rows]
        flops = 3 * (len(rows) * budget.amount if budget.unit == "flops" else sum(each) * budget.amount)
        told = {"name": name, "rows": len(rows), "budget": study.budget, "flops": flops}
        found.append({**told, "title": study.title, "citation": study.citation})
        lines.append([name, str(len(rows)), study.budget, scaled(flops, "FLOP"), study.citation])
    if as_json:
        document(found)
        return
    print(columns(["study", "rows", "usual budget", "3 seeds", "paper"], lines))


def _tell(found: "Results", out: Path) -> None:
    from genus.cli.compare_tables import notices, ranking

    for one in found.measured:
        for group in one.groups:
            print(columns(*ranking(one, group)))
            for line in notices(one, group):
                print(line)
            print()
    if found.missing:
        say(f"{len(found.missing)} jobs are not finished; the same command goes on")
    print(f"{out / PAGE}, {out / MARKDOWN}, {out / JSON}")

"""Commands for scaling laws: `scale ladder`, `scale fit`, `scale plan` and `scale check`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genus.cli.options import AsJson, Out, Running, Settings, Sources
from genus.cli.output import columns, document, scaled
from genus.errors import GenusError, UsageError, say

if TYPE_CHECKING:
    from genus.scale.laws import Law
    from genus.scale.points import Measured
    from genus.scale.prediction import Prediction
    from genus.scale.report import Report

app = typer.Typer(
    help="Train a ladder of small runs, fit scaling laws to it, and predict larger runs before they are trained.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Runs = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUNS...",
        help="Folders of pretraining runs, folders of such folders, or .csv tables with the columns parameters, "
        "tokens, loss and, if known, flops.",
        show_default=False,
    ),
]
Metric = Annotated[
    str, typer.Option("--metric", metavar="NAME", help="The held-out metric, such as loss, masked_lm or causal_lm.")
]
WithoutTables = Annotated[
    bool,
    typer.Option("--without-embeddings", help="Count parameters without those that grow with the vocabulary (Kaplan)."),
]


class LawName(StrEnum):
    """Laws of `genus scale plan`."""

    chinchilla = "chinchilla"
    kaplan = "kaplan"
    saturating = "saturating"
    power = "power"


@app.command("fit")
def fit(runs: Runs, metric: Metric = "loss", without: WithoutTables = False, as_json: AsJson = False) -> None:
    """Fit L(N), L(D), L(C) and L(N, D), and tell how size and data grow with compute.

    By the procedures of Kaplan et al. 2020 and Hoffmann et al. 2022, with 95 % intervals over resampled runs.
    """
    from genus.scale.points import read_runs
    from genus.scale.report import report

    found = report(read_runs(runs, metric, tables=not without))
    if as_json:
        document(found.to_json())
    else:
        _tell(found)


@app.command("plan")
def plan(
    runs: Runs,
    recipe: Annotated[
        str | None, typer.Option(metavar="RECIPE", help="Predict this run, with the budget that it names.")
    ] = None,
    flops: Annotated[
        float | None, typer.Option(metavar="C", help="Predict the best size and data for so much compute.")
    ] = None,
    law: Annotated[LawName | None, typer.Option(help="By which law; else by the fullest that the runs allow.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the prediction, for genus scale check.")
    ] = None,
    metric: Metric = "loss",
    without: WithoutTables = False,
    settings: Settings = [],
    as_json: AsJson = False,
) -> None:
    """Predict the held-out loss of a run before it is trained, or the best run for an amount of compute."""
    from dataclasses import asdict

    from genus.scale.points import notices, read_runs

    if (recipe is None) == (flops is None):
        raise UsageError("name what to predict: --recipe RECIPE, or --flops C")
    found = read_runs(runs, metric, tables=not without)
    for line in notices(found):
        say(line)
    made = _predicted(found, recipe, settings, flops, law, metric, not without)
    if out is not None:
        made.save(out)
    if as_json:
        document(asdict(made))
        return
    print(f"{made.name}: {scaled(made.parameters)} parameters, {scaled(made.tokens)} tokens, "
          f"{scaled(made.flops, 'FLOP')}")  # fmt: skip
    print(f"held-out {made.metric} {made.loss:.4f} [{made.low:.4f}, {made.high:.4f}], by {made.law['law']['kind']} of "
          f"{made.law['points']} points")  # fmt: skip


def _predicted(
    found: "list[Measured]",
    recipe: str | None,
    settings: list[str],
    flops: float | None,
    law: LawName | None,
    metric: str,
    tables: bool,
) -> "Prediction":
    """Return the prediction of a recipe, or of the best run for an amount of compute."""
    from genus import catalog
    from genus.scale.allocation import from_law
    from genus.scale.laws import Chinchilla, Kaplan, PowerLaw, Saturating
    from genus.scale.points import Point
    from genus.scale.prediction import place_of, predict
    from genus.scale.report import best_law

    laws: dict[str, Law] = {
        "chinchilla": Chinchilla(),
        "kaplan": Kaplan(),
        "saturating": Saturating(),
        "power": PowerLaw(),
    }
    if flops is not None:
        if law not in {None, LawName.chinchilla}:
            raise UsageError(f"--law {law}: how to share out compute follows from chinchilla alone")
        if flops <= 0:
            raise UsageError("--flops: expected more than 0")
        fitted = best_law(found, Chinchilla())
        n, d = from_law(fitted).at(flops)
        return predict(fitted, Point(n, d, flops, 0.0), "the best run", metric, tables=tables)
    fitted = best_law(found, None if law is None else laws[law])
    row = catalog.load(str(recipe), settings)
    return predict(fitted, place_of(row, tables=tables), row.name, metric, tables=tables)


@app.command("check")
def check(
    prediction: Annotated[Path, typer.Argument(metavar="FILE", help="As genus scale plan --out wrote it.")],
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of the run that was predicted.")],
    as_json: AsJson = False,
) -> None:
    """Say how far off a prediction was, once its run has been trained."""
    from dataclasses import asdict

    from genus.scale.prediction import Prediction, compare

    found = compare(Prediction.read(prediction), run)
    if as_json:
        document(asdict(found))
        return
    place = "inside" if found.inside else "outside"
    when = "before" if found.before else "after"
    print(f"predicted {found.predicted:.4f} [{found.low:.4f}, {found.high:.4f}], {when} the run was started")
    print(f"measured  {found.measured:.4f}: {found.error:+.1%}, {place} the interval")
    for note in found.notes:
        print(f"note: {note}")


@app.command("ladder")
def ladder(
    texts: Sources,
    out: Out,
    recipes: Annotated[
        list[str],
        typer.Option("--recipe", metavar="RECIPE", help="A size: a member, .json or .toml overlay; repeatable."),
    ],
    budgets: Annotated[
        list[float], typer.Option("--budget", metavar="AMOUNT", help="A budget of every size; repeatable.")
    ],
    unit: Annotated[str, typer.Option(metavar="UNIT", help="Of the budgets: flops, tokens or steps.")] = "flops",
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Runs at a time.")] = 1,
    settings: Settings = [],
    running: Running = [],
    as_json: AsJson = False,
) -> None:
    """Train every size with every budget on one text; what has ended is not made again.

    Tokenizer and store are made once. Stopped or killed, the same command goes on.
    """
    from genus import catalog
    from genus.scale.ladder import climb, rungs
    from genus.scale.prediction import place_of

    rows = [catalog.load(name, settings) for name in recipes]
    made = rungs(rows, budgets, unit, out)
    out.mkdir(parents=True, exist_ok=True)
    failed = climb(made, texts, out, [part for one in running for part in ("--run", one)], jobs)
    told = [
        {"name": rung.name, "folder": rung.folder, "ended": rung.done(), **_place(place_of(rung.recipe))}
        for rung in made
    ]
    if as_json:
        document({"runs": told, "failed": failed})
    else:
        print(f"{sum(bool(one['ended']) for one in told)} of {len(told)} runs have ended; "
              f"genus scale fit {out / 'runs'} fits laws to them")  # fmt: skip
    if failed:
        raise GenusError(f"{len(failed)} of {len(made)} runs failed: {'; '.join(failed[:3])}")


def _place(point: object) -> dict[str, float]:
    return {name: value for name, value in vars(point).items() if name != "loss"}


def _tell(found: "Report") -> None:
    """Print laws and allocations as tables, and why others are missing."""
    for line in found.notices:
        say(line)
    rows = []
    for name, one in found.laws.items():
        intervals = one.intervals()
        for constant, value in one.constants.items():
            low, high = intervals[constant]
            rows.append([name, constant, f"{value:.4g}", f"{low:.4g} to {high:.4g}"])
    if rows:
        print(columns([f"law of {found.runs} runs", "constant", "value", "95 % interval"], rows))
    shares = [
        [name, f"C^{one.a:.3f}", f"C^{one.b:.3f}", f"{one.at(1e18)[1] / one.at(1e18)[0]:.3g}"]
        for name, one in found.allocations.items()
    ]
    if shares:
        print()
        print(columns(["approach", "parameters", "tokens", "tokens a parameter at 1e18 FLOP"], shares))
    for name, reason in found.missing.items():
        say(f"{name}: not fitted: {reason}")
    if not rows:
        raise GenusError("no law could be fitted; make more runs (genus scale ladder)")

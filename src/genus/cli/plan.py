"""The command `plan`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genus.cli.options import AsJson, RecipeName, Settings
from genus.cli.output import briefly, columns, document, scaled
from genus.errors import GenusError

if TYPE_CHECKING:
    from genus.plan import Plan, Run
    from genus.plan.assumptions import Assumptions
    from genus.recipe import Recipe

SHOWN = 6
"""Layouts in the table."""


@briefly()
def plan(
    recipe: RecipeName,
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="v100, a100-40gb, a100, a100-pcie-40gb, a100-pcie, h100, h100-pcie, h100-nvl, h200, l4, l40, l40s; "
            "another one by --assume device.flops=... and the like.",
        ),
    ] = "h100",
    count: Annotated[int, typer.Option(metavar="N", min=1, help="How many of them.")] = 1,
    assume: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=VALUE",
            help="What is taken for granted: efficiency (share of the peak), overlap, reserve, overhead, price (of a "
            "device for an hour), storage.weights and the like, device.memory and the like; repeatable.",
        ),
    ] = [],
    measured: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Take the efficiency that this run had, best of one on a single device."),
    ] = None,
    fits: Annotated[
        bool, typer.Option("--fits", help="Say only whether it fits: exit code 0 if it does, 1 if not.")
    ] = False,
    settings: Settings = [],
    as_json: AsJson = False,
) -> None:
    """Say how devices would train a recipe: memory, layout, speed, days, energy and cost.

    Everything is computed from the recipe and from stated figures; nothing is built and nothing measured.
    """
    from genus import catalog
    from genus.devices import find_device
    from genus.plan import best, plans
    from genus.plan.assumptions import Assumptions
    from genus.plan.measured import measured as efficiency

    row = catalog.load(recipe, settings)
    given = Assumptions(device=find_device(device), count=count)
    if measured is not None:
        given = given.override("efficiency", efficiency(measured, given.device))
    given = catalog.overridden(given, assume, "--assume")
    found = plans(row, given)
    chosen = best(found)
    if as_json:
        document(_document(row, given, found))
    elif chosen is not None:
        print(f"{row.name} fits on {count} {device}" if fits else _text(row, device, given, found))
    if chosen is None:
        raise GenusError(_outside(row, device, given, found))


def _document(row: "Recipe", given: "Assumptions", found: "list[Plan]") -> dict[str, Any]:
    """Return everything as JSON."""
    from dataclasses import asdict

    from genus.plan import best, whole_run, why

    chosen = best(found)
    return {
        "recipe": row.name,
        "hash": row.hash(),
        "fits": chosen is not None,
        "plan": None if chosen is None else chosen.to_json(),
        "run": None if chosen is None else asdict(whole_run(row, chosen)),
        "settings": [] if chosen is None else chosen.layout.settings(row.vocab_rows),
        "why": why(chosen, found),
        "assumptions": given.to_json(),
        "layouts": [plan.to_json() for plan in found],
    }


def _outside(row: "Recipe", device: str, given: "Assumptions", found: "list[Plan]") -> str:
    """Return why nothing fits, and how many devices would do."""
    from genus.plan import least_devices, why

    enough = least_devices(row, given)
    advice = (
        f"{enough} of them would do" if enough and enough > given.count else "take larger devices or a smaller model"
    )
    return f"{row.name} does not fit on {given.count} {device}: {why(None, found)[0]}; {advice}"


def _text(row: "Recipe", device: str, given: "Assumptions", found: "list[Plan]") -> str:
    """Return the plan as lines, and a table of layouts below."""
    from genus.plan import best, whole_run, why

    chosen = best(found)
    assert chosen is not None
    work, spent, use = chosen.work, chosen.seconds, chosen.memory
    parts = {"weights": use.weights, "gradients": use.gradients, "moments": use.optimizer, "copies": use.working,
             "activations": use.activations}  # fmt: skip
    times = {"computing": spent.compute, "again": spent.recompute, "matrices": spent.tensor,
             "data": spent.data, "update": spent.update}  # fmt: skip
    shares = ", ".join(
        f"{name} {value / spent.total:.0%}" for name, value in times.items() if value / spent.total > 5e-3
    )
    micro = work.rows // chosen.layout.data // chosen.micro_batch
    lines = [
        ["recipe", f"{row.name}, {scaled(work.parameters)} parameters, {given.count} {device}"],
        ["layout", chosen.layout.in_words],
        ["micro-batch", f"{chosen.micro_batch} rows of {work.length}, {micro} a step and group"],
        ["memory", f"{scaled(use.total, 'B')} of {scaled(given.memory, 'B')} a device: "
         + ", ".join(f"{name} {scaled(value, 'B')}" for name, value in parts.items() if value)],
        ["step", f"{spent.total:,.3g} s: {shares}; a device sends "
         f"{scaled(chosen.traffic['tensor'], 'B')} for matrices, {scaled(chosen.traffic['data'], 'B')} for data"],
        ["speed", f"{scaled(chosen.tokens_per_second)} tokens/s, {chosen.utilization:.0%} of the peak"],
        *_of_run(whole_run(row, chosen)),
        *(["why", line] for line in why(chosen, found)),
        ["settings", " ".join(chosen.layout.settings(row.vocab_rows)) or "none: as a run is by default"],
        ["assumed", f"{given.efficiency:.0%} of the peak while computing, {given.overlap:.0%} of the exchange hidden, "
         f"{given.reserve:.0%} of the memory left free, {given.overhead:g} times the devices' power"],
    ]  # fmt: skip
    width = max(len(name) for name, _ in lines)
    told = [f"{name:{width}}  {text}" for name, text in lines]
    return "\n".join([*told, "", _table(found)])


def _of_run(run: "Run") -> list[list[str]]:
    """Return lines on the whole run."""
    lines = [["note", note] for note in run.notes]
    if run.tokens is not None and run.days is not None and run.kilowatt_hours is not None:
        time = f"{run.days:,.1f} days" if run.days >= 1 else f"{24 * run.days:,.2g} hours"
        price = "" if run.cost is None else f", cost {run.cost:,.0f}"
        told = f"{scaled(run.tokens)} tokens, {time}, {scaled(1000 * run.kilowatt_hours, 'Wh')}{price}"
        lines.insert(0, ["whole run", told])
    return lines


def _table(found: "list[Plan]") -> str:
    """Return the first layouts as a table: of each division of matrices and data the fastest."""
    shown: dict[tuple[int, int], Plan] = {}
    for plan in found:
        shown.setdefault((plan.layout.tensor, plan.layout.stage), plan)
    header = ["layout", "fits", "rows", "at most", "memory", "tokens/s"]
    rows = [
        [plan.layout.in_words, "yes" if plan.fits else "no", str(plan.micro_batch), f"{plan.most_rows:,}",
         scaled(plan.memory.total, "B"), scaled(plan.tokens_per_second)]
        for plan in list(shown.values())[:SHOWN]
    ]  # fmt: skip
    return columns(header, rows)

"""The command `watch`: runs in the terminal, live, or as a page of their curves."""

import html
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genus.cli.options import AsJson
from genus.cli.output import columns, document, scaled
from genus.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.watch import Watched

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40
"""Characters of a curve in the terminal."""
STALE = 600.0
"""Seconds without a row after which a run that has not ended is told to stand still."""
POINTS = 300
"""Points of a curve on a page."""
COLORS = ("#1664c0", "#c2501c", "#2a8a4a", "#8a3fb0", "#b08a00", "#b0204f")
"""Of runs on a page, one after another."""


def watch(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of pretraining runs.", show_default=False)
    ],
    every: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.2, help="On a terminal: how often to look, until all have ended."),
    ] = 5.0,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="Write the curves as a page of HTML, and end.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Watch runs: loss, rate, gradient norm, speed, utilization, evaluation, spikes, and the time that is left.

    Several runs stand side by side. Runs are only read.
    """
    from genus.files import write_text
    from genus.watch import watched

    if len({run.resolve() for run in runs}) < len(runs):
        raise UsageError("a run is named twice")
    found = [watched(run) for run in runs]
    if as_json:
        document([one.to_json() for one in found])
    elif page is not None:
        write_text(page, page_of(found))
        print(f"{page}: {len(found)} run{'s' if len(found) > 1 else ''}")
    else:
        _look(runs, found, 0.0 if once else every)


def _look(runs: "Sequence[Path]", found: "list[Watched]", every: float) -> None:
    """Print runs, again and again on a terminal until all have ended."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from genus.watch import watched

    console = Console()
    if not every or not console.is_terminal:
        print(text_of(found))
        return
    with Live(Text(text_of(found)), console=console, auto_refresh=False) as live:
        while not all(one.ended for one in found):
            time.sleep(every)
            found = [watched(run) for run in runs]
            live.update(Text(text_of(found)), refresh=True)


def text_of(found: "Sequence[Watched]") -> str:
    """Return runs as a table, with a line of each curve below."""
    header = ["run", "spent", "step", "loss", "rate", "norm", "tokens/s", "of peak", "held out", "left"]
    lines = [columns(header, [_row(one) for one in found])]
    for one in found:
        lines.append("")
        for name in ("loss", "gradient_norm", "tokens_per_second", *_held_out(one)):
            if curve := one.curve(name):
                low, high = min(value for _, value in curve), max(value for _, value in curve)
                lines.append(f"{one.name:16.16} {name:24.24} {spark([value for _, value in curve])} "
                             f"{low:.4g} to {high:.4g}")  # fmt: skip
        if leapt := one.spikes:
            told = ", ".join(f"{step:,.0f} ({loss:.3g})" for step, loss in leapt[-5:])
            lines.append(f"{one.name:16.16} {len(leapt)} spikes of the loss, the last at steps {told}")
    return "\n".join(lines)


def _row(one: "Watched") -> list[str]:
    """Return a run's cells."""
    from genus.train.display import clock

    last, measured = one.last, _held_out(one)
    left = one.seconds_left
    if one.ended:
        told = "ended"
    elif one.age > STALE:
        told = f"still for {clock(one.age)}"
    else:
        told = clock(left) if math.isfinite(left) else ""
    return [
        one.name,
        f"{last['spent']:.0%}",
        f"{last['step']:,}",
        _number(last.get("loss"), ".4f"),
        _number(last.get("lr"), ".2e"),
        _number(last.get("gradient_norm"), ".2f"),
        scaled(last["tokens_per_second"]),
        _number(last.get("utilization"), ".0%"),
        _number(one.curve(measured[0])[-1][1], ".4f") if measured else "",
        told,
    ]


def _number(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def _held_out(one: "Watched") -> list[str]:
    """Return the names of the held-out loss, if there is one."""
    return [name for name in one.names() if name == "held_out/loss" and one.curve(name)]


def spark(values: "Sequence[float]", width: int = WIDTH) -> str:
    """Return numbers as bars of a line of text, each of the mean of its part."""
    size = max(1.0, len(values) / width)
    parts = [values[int(place * size) : max(int((place + 1) * size), int(place * size) + 1)]
             for place in range(min(width, len(values)))]  # fmt: skip
    means = [sum(part) / len(part) for part in parts if part]
    low, high = min(means), max(means)
    return "".join(BARS[round((mean - low) / (high - low or 1.0) * (len(BARS) - 1))] for mean in means)


def page_of(found: "Sequence[Watched]") -> str:
    """Return a page that needs no other file: a table, and a figure of each value with a line for each run."""
    from genus.cli.plot import STYLE
    from genus.cli.plot import document as page
    from genus.watch import CURVES

    names = list(dict.fromkeys(name for one in found for name in one.names()))
    ordered = [*(name for name in CURVES if name in names), *(name for name in names if name not in CURVES)]
    runs = "\n".join(f"svg path.run{n} {{ stroke: {color} }} svg circle.run{n} {{ fill: {color} }} "
                     f".run{n} {{ color: {color} }}" for n, color in enumerate(COLORS))  # fmt: skip
    header = "".join(f"<th>{cell}</th>" for cell in ("run", "spent", "step", "loss", "tokens/s", "held out", "left"))
    lines = []
    for number, one in enumerate(found):
        cells = [cell for place, cell in enumerate(_row(one)) if place in {0, 1, 2, 3, 6, 8, 9}]
        name, *rest = (html.escape(cell) for cell in cells)
        numbers = "".join(f'<td class="number">{cell}</td>' for cell in rest)
        lines.append(f'<tr><td class="run{number % len(COLORS)}">&#9632; {name}</td>{numbers}</tr>')
    figures = [f"<h2>{html.escape(CURVES.get(name, name))}</h2>{figure}" for name in ordered
               if (figure := figure_of(found, name))]  # fmt: skip
    leapt = [f"<li>{html.escape(one.name)}: step {step:,.0f}, loss {loss:.4g}</li>"
             for one in found for step, loss in one.spikes]  # fmt: skip
    told = f"<h2>Spikes of the loss</h2><ul>{''.join(leapt)}</ul>" if leapt else ""
    table = f"<table><tr>{header}</tr>{''.join(lines)}</table>"
    return page("Runs" if len(found) > 1 else found[0].name, STYLE + runs, table + "".join(figures) + told)


def figure_of(found: "Sequence[Watched]", name: str) -> str:
    """Return the figure of a value over steps, spikes of the loss marked; empty if no run has two points."""
    from genus.cli.plot import Axis, Frame, ticks

    curves = {number: thinned(one.curve(name)) for number, one in enumerate(found)}
    curves = {number: curve for number, curve in curves.items() if len(curve) > 1}
    if not curves:
        return ""
    steps, values = ([point[axis] for curve in curves.values() for point in curve] for axis in (0, 1))
    low, high = min(values), max(values)
    if high - low <= 1e-9 * abs(high):
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    x = Axis(0.0, max(steps), [(tick, scaled(tick)) for tick in ticks(max(steps))], "step")
    y = Axis(low, high, [(tick, f"{tick:.4g}") for tick in ticks(high, low)])
    frame = Frame(x, y, left=64)
    drawn = [frame.path(f"run{number % len(COLORS)}", curve) for number, curve in curves.items()]
    if name == "loss":
        drawn += [
            f'<circle class="run{number % len(COLORS)}" cx="{frame.at_x(step):.1f}" cy="{frame.at_y(value):.1f}" '
            'r="4"/>'
            for number in curves
            for step, value in found[number].spikes
        ]
    names = ", ".join(found[number].name for number in curves)
    return frame.svg(f"{name} over steps: {names}", drawn)


def thinned(curve: "Sequence[tuple[float, float]]", most: int = POINTS) -> list[tuple[float, float]]:
    """Return at most so many points of a curve: of each part the highest, so that no spike is lost, and the last."""
    if len(curve) <= most:
        return list(curve)
    size = len(curve) / (most - 1)
    parts = [curve[int(place * size) : int((place + 1) * size)] for place in range(most - 1)]
    return [*(max(part, key=lambda point: point[1]) for part in parts if part), curve[-1]]

"""A comparison as one HTML page that holds its own style and figures: points with intervals, and loss curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.cli import compare_tables as tables
from genus.cli.analysis_page import figure, sectioned, table
from genus.cli.analysis_plots import NAMES, ROW, short
from genus.cli.plot import LEFT, RIGHT, WIDTH, Axis, Frame, escaped, ticks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from genus.study.results import Group, Measured, Results, RowFacts

COLORS = 8
"""Different lines; rows beyond have the same ones again, and are told apart in the table."""
MOST_CURVES = 24
"""Rows whose curves are drawn in one figure."""
DASHES = ("none", "6 4", "2 3")
HUES = [f"hsl({45 * number} 65% 45%)" for number in range(COLORS)]
STYLE = "\n".join(
    f"svg path.c{number} {{ stroke: {hue} }} .key i.c{number} {{ background: {hue} }}"
    for number, hue in enumerate(HUES)
) + """
svg path.d1 { stroke-dasharray: 6 4 } svg path.d2 { stroke-dasharray: 2 3 }
svg circle.random { fill: none; stroke: var(--faint); stroke-width: 2 } svg path.random { stroke: var(--faint) }
.key i { display: inline-block; width: 1.2rem; height: .25rem; vertical-align: middle; margin-right: .3rem }
.key span { display: inline-block }
"""


def page(found: Results) -> str:
    """Return the page; all names are escaped."""
    return sectioned(tables.title(found), tables.lead(found), [*_sections(found)], STYLE)


def _sections(found: Results) -> Iterator[tuple[str, str]]:
    """Yield the titles of the sections with their content."""
    drawn = {
        one.name + (f": {group.like}" if len(one.groups) > 1 else ""): points(one, group)
        for one in found.measured
        for group in one.groups
    }
    for name, parts in tables.sections(found):
        body = drawn.get(name, "")
        for part in parts:
            body += f'<p class="note" dir="auto">{escaped(part)}</p>' if isinstance(part, str) else table(part)
        yield name, body
        if name == "Rows":
            yield from _curves(found)


def points(one: Measured, group: Group) -> str:
    """Return the scores of rows with their intervals, and as open circles those of random weights."""
    _, rows = tables.ranking(one, group)
    cells = [(row[1], group.cells[row[1]]) for row in rows]
    drawn = [each for _, cell in cells for each in (cell.over, cell.random) if each is not None]
    ends = [end for each in drawn for end in (each.mean, each.low, each.high) if end is not None]
    middle = [each.mean for each in drawn]
    spread = max(middle) - min(middle) or abs(max(middle)) * 0.1 or 1.0
    low, high = (max(min(ends), min(middle) - spread), min(max(ends), max(middle) + spread))  # seeds of two are wide
    room = 0.05 * (high - low) or 0.5
    x = Axis(low - room, high + room, [(value, f"{value:.4g}") for value in ticks(high + room, low - room)], one.unit)
    names = [(-float(place), short(name)) for place, (name, _) in enumerate(cells)]
    frame = Frame(x, Axis(-len(cells) + 0.5, 0.5, names), ROW * len(cells) + 52, NAMES)
    parts: list[str] = []
    for place, (_, cell) in enumerate(cells):
        for kind, each, height in (("random", cell.random, -place - 0.25), ("first", cell.over, float(-place))):
            if each is None:
                continue
            if each.low is not None and each.high is not None:
                span = max(each.low, x.low), min(each.high, x.high)
                parts.append(frame.path(kind, [(span[0], height), (span[1], height)]))
            at_x, at_y = frame.at(each.mean, height).split()
            parts.append(f'<circle class="{kind}" cx="{at_x}" cy="{at_y}" r="4"/>')
    told = "; ".join(f"{name} {tables.value(cell.over)}, random {tables.value(cell.random)}" for name, cell in cells)
    caption = "Means over seeds with 95 % intervals; open circles are random weights. Wide intervals are cut."
    return figure(frame.svg(f"{one.name}: {told}", parts), caption)


def _curves(found: Results) -> Iterator[tuple[str, str]]:
    """Yield the section of loss curves: one figure for each loss, as different losses are not compared."""
    losses: dict[str, list[RowFacts]] = {}
    for row in found.rows:
        for one in list(row.training.values())[:1]:
            if one["token_losses"] and one["curve"]:
                losses.setdefault(one["token_losses"][0], []).append(row)
    body = "".join(curves(name, rows[:MOST_CURVES]) for name, rows in losses.items())
    if body:
        share = found.about["plateau"]
        note = (
            f"A run has left the plateau from the evaluation on from which its loss stays under {share:.0%} of the "
            "entropy of single tokens in the text (the dashed line): at that level a model knows how often each token "
            "occurs, and little else. Losses of different vocabularies or objectives cannot be compared."
        )
        yield "Loss curves", f'{body}<p class="note">{escaped(note)}</p>'


def curves(loss: str, rows: Sequence[RowFacts]) -> str:
    """Return the held-out losses of rows in the course of training, each the mean over its seeds."""
    lines = {row.name: _mean([one["curve"] for one in row.training.values()], loss) for row in rows}
    lines = {name: line for name, line in lines.items() if line}
    if not lines:
        return ""
    every = [point for line in lines.values() for point in line]
    level = float(np.mean([next(iter(row.training.values()))["entropy"] for row in rows]))
    right = max(tokens for tokens, _ in every) or 1.0
    low, high = int(min(*(value for _, value in every), level)), int(max(*(value for _, value in every), level)) + 1
    x = Axis(0.0, right, [(tokens, f"{tokens / 1e6:g}") for tokens in ticks(right)], "million tokens")
    y = Axis(low, high, [(value, f"{value:g}") for value in ticks(high, low)], f"held-out {loss}, nats")
    frame = Frame(x, y, 300, LEFT + 22)
    drawn = [frame.path("second dashed", [(0.0, level), (right, level)])]
    drawn += [frame.path(_class(place), line) for place, line in enumerate(lines.values())]
    where = f'x="{WIDTH - RIGHT}" y="{frame.at_y(level) - 4:.1f}" text-anchor="end"'
    drawn.append(f'<text class="second" {where}>single tokens</text>')
    key = " ".join(f'<span><i class="{_class(place)}"></i>{escaped(name)}</span>' for place, name in enumerate(lines))
    told = "; ".join(f"{name} ends at {line[-1][1]:.3f}" for name, line in lines.items())
    shown = figure(frame.svg(f"Held-out {loss}: {told}", drawn), f"Held-out {loss}, means over seeds.")
    return f'{shown}<p class="key">{key}</p>'


def _class(place: int) -> str:
    return f"c{place % COLORS} d{place // COLORS % len(DASHES)}"


def _mean(several: Sequence[Sequence[dict[str, float]]], loss: str) -> list[tuple[float, float]]:
    """Return (tokens, mean loss) at each evaluation that all seeds have."""
    shortest = min((len(one) for one in several), default=0)
    points = [[one[place] for one in several] for place in range(shortest)]
    return [
        (float(np.mean([point["tokens"] for point in each])), float(np.mean([point[loss] for point in each])))
        for each in points
        if all(point.get(loss) is not None for point in each)
    ]

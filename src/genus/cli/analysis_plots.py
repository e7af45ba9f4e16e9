"""The figures of an error analysis."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

import numpy as np

from genus.cli.plot import LEFT, Axis, Frame, ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.analysis.findings import Calibration, Grouping, Numbers

WHOLE = [(value, f"{value:g}") for value in (0, 0.2, 0.4, 0.6, 0.8, 1)]
"""Labels of an axis from 0 to 1."""
SIDE, NAMES, ROW = 300, 132, 26
"""Height of a square figure; room for the names of groups, and the height of each."""
POINTS, STEPS = 1000, 20
"""Most points of a scatter plot, and bars of a histogram."""
LONGEST = 18
"""Characters of a name that fit beside a figure."""


def reliability(found: Calibration, told: str) -> str:
    """Return a reliability diagram: how many are right in each bin, against their mean confidence."""
    frame = Frame(Axis(0, 1, WHOLE, found_axis(found)), Axis(0, 1, WHOLE, ""), SIDE, LEFT + 8)
    drawn = [frame.path("second dashed", [(0, 0), (1, 1)])]
    for one in found.bins:
        drawn.append(frame.bar("first", one.low + 0.004, one.high - 0.004, 0, one.accuracy))
        x, y = frame.at(one.confidence, one.accuracy).split()
        drawn.append(
            f'<circle class="second" cx="{x}" cy="{y}" r="{2 + 5 * math.sqrt(one.count / found.decisions):.1f}"/>'
        )
    return frame.svg(told, drawn)


def found_axis(found: Calibration) -> str:
    """Return the name of the axis of probabilities."""
    return f"probability of {found.of}"


def scores(grouping: Grouping, metric: str, told: str) -> str:
    """Return the scores of groups with their intervals, a group a line."""
    values = [(group, group.scores.get(metric)) for group in grouping.groups]
    ends = [end for _, one in values if one for end in (one.mean, one.low, one.high) if end is not None]
    if not ends:
        return ""
    low, high = min(0.0, *ends), max(1.0, *ends)
    labels = [(value, f"{value:.3g}") for value in ticks(high, low)]
    names = [(-float(place), short(group.name)) for place, (group, _) in enumerate(values)]
    frame = Frame(Axis(low, high, labels, metric), Axis(-len(values) + 0.5, 0.5, names), ROW * len(values) + 52, NAMES)
    drawn = []
    for place, (_, one) in enumerate(values):
        if one is not None:
            if one.low is not None and one.high is not None:
                drawn.append(frame.path("first", [(one.low, -place), (one.high, -place)]))
            x, y = frame.at(one.mean, -place).split()
            drawn.append(f'<circle class="first" cx="{x}" cy="{y}" r="5"/>')
    return frame.svg(told, drawn)


def scatter(found: Numbers, told: str) -> str:
    """Return true numbers against predicted ones, with the line on which they are equal."""
    low, high = _ends([*found.truth, *found.predicted])
    labels = _labels(low, high)
    frame = Frame(Axis(low, high, labels, "truth"), Axis(low, high, labels), SIDE, LEFT + 20)
    every = max(1, math.ceil(len(found.truth) / POINTS))
    points = [*zip(found.truth, found.predicted, strict=True)][::every]
    drawn = [frame.path("second dashed", [(low, low), (high, high)])]
    for point in points:
        x, y = frame.at(*point).split()
        drawn.append(f'<circle class="first faint" cx="{x}" cy="{y}" r="3"/>')
    return frame.svg(told, drawn)


def residuals(found: Numbers, told: str) -> str:
    """Return the histogram of predicted - true."""
    errors = np.array(found.predicted) - np.array(found.truth)
    low, high = _ends(errors.tolist())
    counts, edges = np.histogram(errors, STEPS, (low, high))
    most = float(counts.max())
    upward = [(value, f"{value:g}") for value in ticks(max(most, 1.0)) if value == int(value)]
    frame = Frame(
        Axis(low, high, _labels(low, high), "predicted - true"), Axis(0, max(most, 1.0), upward), left=LEFT + 20
    )
    drawn = [
        frame.bar("first", float(edges[place]), float(edges[place + 1]), 0, float(count))
        for place, count in enumerate(counts.tolist())
        if count
    ]
    if low < 0 < high:
        drawn.append(frame.path("second dashed", [(0, 0), (0, max(most, 1.0))]))
    return frame.svg(told, drawn)


def short(name: str) -> str:
    """Return a name that fits beside a figure."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def bar(share: float) -> str:
    """Return a bar in a table, as long as a fraction."""
    return f'<div class="bar" aria-hidden="true"><i style="width:{html.escape(f"{share:.0%}")}"></i></div>'


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Return the least and the largest number, with some room on both sides."""
    low, high = min(values), max(values)
    room = 0.04 * (high - low) or max(0.5, abs(low) * 0.1)
    return low - room, high + room


def _labels(low: float, high: float) -> list[tuple[float, str]]:
    return [(value, f"{value:.4g}") for value in ticks(high, low)]

"""The figure of `adaptations.py`: what is lost of the score against trained parameters, on a logarithmic axis."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genus.cli.plot import LEFT, STYLE, Axis, Frame, standing_alone, ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.evaluate.interval import Interval

HEIGHT, LINE, WIDE = 340, 13, 6.5
"""Of the figure; of a line of text, and about the width of its letters."""
OWN_STYLE = f"{STYLE}svg circle {{ fill: var(--first) }} svg path.whisker {{ stroke: var(--faint); stroke-width: 1 }}"


@dataclass(frozen=True)
class Point:
    """A kind of fine-tuning in the figure."""

    name: str
    family: str
    """Points of a family are joined by a line; "": it stands alone."""
    trained: int
    score: Interval
    """Beside training all parameters, in points."""


def figure(points: Sequence[Point], tasks: int) -> str:
    """Return the figure as SVG, with intervals over seeds where there are several."""
    frame = _frame(points, tasks)
    drawn = []
    for family in dict.fromkeys(point.family for point in points if point.family):
        of_family = sorted((point for point in points if point.family == family), key=lambda point: point.trained)
        drawn.append(frame.path("first", [_place(point) for point in of_family]))
    for point in points:
        x, y = _place(point)
        if point.score.low is not None and point.score.high is not None:
            drawn.append(frame.path("whisker", [(x, point.score.low), (x, point.score.high)]))
        drawn.append(f'<circle cx="{frame.at_x(x):.1f}" cy="{frame.at_y(y):.1f}" r="4"/>')
    told = f"Score beside training all parameters, the mean over {tasks} tasks, against trained parameters: "
    told += "; ".join(f"{point.name}, {point.trained:,}: {point.score.mean:+.1f}" for point in points)
    return standing_alone(frame.svg(told, [*drawn, *_labels(frame, points)]), OWN_STYLE)


def _place(point: Point) -> tuple[float, float]:
    return math.log10(point.trained), point.score.mean


def _frame(points: Sequence[Point], tasks: int) -> Frame:
    """Return the axes: powers of ten below, points at the left."""
    powers = [math.log10(point.trained) for point in points]
    left, right = math.floor(min(powers)), math.ceil(max(powers))
    ends = [end for point in points for end in (point.score.mean, point.score.low, point.score.high) if end is not None]
    low, high = min(ends), max([0.0, *ends])
    room = 0.06 * (high - low) or 1.0
    below = [(float(power), f"{10**power:,}") for power in range(left, right + 1)]
    beside = [(value, f"{value:g}") for value in ticks(high + room, low - room)]
    name = f"score beside training all, in points, mean of {tasks} tasks"
    x = Axis(left, right, below, "trained parameters, logarithmic")
    return Frame(x, Axis(low - room, high + room, beside, name), HEIGHT, LEFT + 26)


def _labels(frame: Frame, points: Sequence[Point]) -> list[str]:
    """Return the names beside the points, moved down where they would lie on one another."""
    taken: list[tuple[float, float, float]] = []
    drawn = []
    for point in sorted(points, key=lambda point: -point.score.mean):
        x, y = (at(value) for at, value in zip((frame.at_x, frame.at_y), _place(point), strict=True))
        width = WIDE * len(point.name)
        start = x + 7 if x + 7 + width < 420 else x - 7 - width
        y += 4
        while any(abs(y - other) < LINE and start < end and begin < start + width for begin, end, other in taken):
            y += LINE
        taken.append((start, start + width, y))
        drawn.append(f'<text x="{start:.1f}" y="{y:.1f}">{html.escape(point.name)}</text>')
    return drawn

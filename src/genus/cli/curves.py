"""Curves with intervals: what becomes of a number as another grows, of one or two series."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genus.cli.plot import LEFT, Axis, Frame, ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.evaluate.interval import Interval

CLASSES = ("first", "second")
"""Styles of the series, in their order."""
LABELS = 9
"""Most labels of the axis below."""
STYLE = "svg path.whisker { stroke-width: 1.5 }"


@dataclass(frozen=True)
class Series:
    """A curve: places on the axis below, and a number with its interval at each."""

    name: str
    points: Sequence[tuple[float, Interval]]


def curves(
    series: Sequence[Series],
    below: str,
    left: str,
    *,
    logarithmic: bool = False,
    span: tuple[float, float] | None = None,
) -> str:
    """Return a figure of one or two curves with their intervals.

    Args:
        series: at least one point in all.
        below: name of the axis below.
        left: name of the other axis.
        logarithmic: whether the axis below is.
        span: ends of the axis at the left; None: those of the numbers.
    """

    def place(x: float) -> float:
        return math.log(x) if logarithmic else x

    xs = sorted({x for one in series for x, _ in one.points})
    every = math.ceil(len(xs) / LABELS)
    labels = [(place(x), f"{x:g}") for x in xs[::every]]
    ends = [end for one in series for _, y in one.points for end in (y.mean, y.low, y.high) if end is not None]
    low, high = span or (min(0.0, *ends), max(ends))
    high = high if high > low else low + 1.0
    room = 0.05 * (place(xs[-1]) - place(xs[0])) or 0.5
    upward = [(value, f"{value:.3g}") for value in ticks(high, low)]
    frame = Frame(
        Axis(place(xs[0]) - room, place(xs[-1]) + room, labels, below), Axis(low, high, upward, left), left=LEFT + 24
    )
    drawn = []
    for number, (kind, one) in enumerate(zip(CLASSES, series, strict=False)):
        points = [(place(x), y) for x, y in one.points]
        drawn.append(frame.path(kind, [(x, y.mean) for x, y in points]))
        for x, y in points:
            if y.low is not None and y.high is not None:
                drawn.append(frame.path(f"{kind} whisker", [(x, max(low, y.low)), (x, min(high, y.high))]))
            across, up = frame.at(x, y.mean).split()
            drawn.append(f'<circle class="{kind}" cx="{across}" cy="{up}" r="4"/>')
        if len(series) > 1:
            where = f'x="{frame.at_x(place(xs[-1])):.1f}" y="{16 + 16 * number}" text-anchor="end"'
            drawn.append(f'<text class="{kind}" {where}>{html.escape(one.name)}</text>')
    told = "; ".join(f"{one.name}: " + ", ".join(f"{x:g}: {y}" for x, y in one.points) for one in series)
    return frame.svg(f"{left} by {below}. {told}", drawn)

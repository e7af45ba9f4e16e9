"""Figures as SVG, and the style of pages that hold all they need: no script, no request."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 420, 240, 28, 16, 40, 12
"""Of a figure in its own units, and of its margins; the page scales it, by less than 1 on a phone."""
TICKS = 5
"""Most labels of an axis, besides the first one."""
STYLE = """
:root { color-scheme: light dark; --ink: #1d2530; --faint: #69707b; --line: #d5d9e0; --paper: #fff;
  --first: #1664c0; --second: #c2501c }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --faint: #9aa3af; --line: #3a424e; --paper: #14181e; --first: #6fb1ff; --second: #ff9a66 }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 46rem;
  margin: 0 auto; padding: 1rem 1rem 3rem }
h1 { font-size: 1.5rem; line-height: 1.25 } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .35rem .6rem .35rem 0; vertical-align: top; border-bottom: 1px solid var(--line) }
th { font-weight: 600; color: var(--faint) } td.number { font-variant-numeric: tabular-nums }
.bar { height: .7rem; border-radius: .35rem; background: var(--line); position: relative; min-width: 5rem }
.bar i { position: absolute; inset: 0 auto 0 0; border-radius: .35rem; background: var(--first) }
svg { width: 100%; max-width: 34rem; height: auto } svg text { font: 13px system-ui, sans-serif; fill: var(--faint) }
svg path { fill: none; stroke-width: 2 } svg path.grid { stroke: var(--line); stroke-width: 1 }
svg path.first { stroke: var(--first) } svg path.second { stroke: var(--second) }
svg text.first { fill: var(--first) } svg text.second { fill: var(--second) }
code, pre { font: .9em ui-monospace, monospace; overflow-wrap: anywhere }
p.note { color: var(--faint) }
"""


def escaped(value: object) -> str:
    """Return a value as text of a page."""
    return html.escape(str(value))


def document(title: str, style: str, body: str) -> str:
    """Return a page, which a browser lets neither run a script nor fetch anything."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{html.escape(title)}</title><style>{style}</style></head><body>
<h1 dir="auto">{html.escape(title)}</h1>
{body}
</body></html>
"""


def standing_alone(figure: str, style: str) -> str:
    """Return a figure as a file of its own, which holds its style and needs no page."""
    head, rest = figure.removeprefix("<svg").split(">", 1)
    return f'<svg xmlns="http://www.w3.org/2000/svg"{head}><style>{style}</style>{rest}\n'


@dataclass(frozen=True)
class Axis:
    """An axis of numbers, with labels at some of them."""

    low: float
    high: float
    labels: Sequence[tuple[float, str]]
    name: str = ""

    def share(self, value: float) -> float:
        """Return how far along the axis a number is, 0 at its low end and 1 at its high one."""
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Frame:
    """A figure with an axis below and an axis at the left."""

    x: Axis
    y: Axis
    height: int = HEIGHT
    left: int = LEFT

    def at_x(self, value: float) -> float:
        """Return the horizontal place of a number."""
        return self.left + self.x.share(value) * (WIDTH - self.left - RIGHT)

    def at_y(self, value: float) -> float:
        """Return the vertical place of a number."""
        return TOP + (1 - self.y.share(value)) * (self.height - TOP - BOTTOM)

    def at(self, x: float, y: float) -> str:
        """Return a point as paths have it."""
        return f"{self.at_x(x):.1f} {self.at_y(y):.1f}"

    def path(self, name: str, points: Iterable[tuple[float, float]]) -> str:
        """Return a line through points, of the class `name`."""
        return f'<path class="{name}" d="M{" L".join(self.at(*point) for point in points)}"/>'

    def bar(self, name: str, low: float, high: float, base: float, top: float) -> str:
        """Return a rectangle from `low` to `high` on the axis below, from `base` to `top` on the other."""
        x, y = self.at_x(low), self.at_y(max(base, top))
        width, height = self.at_x(high) - x, self.at_y(min(base, top)) - y
        return f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'

    def svg(self, told: str, drawn: Sequence[str]) -> str:
        """Return the figure with its grid, labels and what is drawn; `told` says in words what it shows."""
        right, below = WIDTH - RIGHT, self.height - BOTTOM
        parts = []
        for value, label in self.y.labels:
            y = self.at_y(value)
            parts.append(f'<path class="grid" d="M{self.left:.1f} {y:.1f} H{right}"/>')
            parts.append(f'<text x="{self.left - 8}" y="{y + 4:.1f}" text-anchor="end">{html.escape(label)}</text>')
        for value, label in self.x.labels:
            where = f'x="{self.at_x(value):.1f}" y="{below + 18}" text-anchor="middle"'
            parts.append(f"<text {where}>{html.escape(label)}</text>")
        middle = (self.left + right) / 2
        parts.append(f'<text x="{middle}" y="{self.height - 4}" text-anchor="middle">{html.escape(self.x.name)}</text>')
        if self.y.name:
            turned = f'transform="rotate(-90)" x="{-(TOP + below) / 2}" y="12" text-anchor="middle"'
            parts.append(f"<text {turned}>{html.escape(self.y.name)}</text>")
        title = html.escape(told)
        box = f'viewBox="0 0 {WIDTH} {self.height}" role="img" tabindex="0" aria-label="{title}"'
        return f"<svg {box}>{''.join([*parts, *drawn])}</svg>"


def ticks(right: float, left: float = 0.0) -> list[float]:
    """Return the multiples of 1, 2 or 5 times a power of ten from `left` to `right`, at most `TICKS` and one."""
    power = 10.0 ** math.floor(math.log10((right - left) / TICKS))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if (right - left) / step <= TICKS)
    return [number * step for number in range(math.ceil(left / step), math.floor(right / step) + 1)]

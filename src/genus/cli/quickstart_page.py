"""The page of the quickstart: one HTML file that holds its own style and its figure."""

from __future__ import annotations

import html
import math
from itertools import pairwise
from typing import TYPE_CHECKING

from genus.files import write_text
from genus.train.record import read_metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 420, 240, 28, 16, 40, 12
"""Of the figure in its own units, and of its margins; the page scales it, by less than 1 on a phone."""
POINTS, TICKS = 30, 5
"""Most points of the training curve, each a mean, and most labels of the axis of tokens above 0."""
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
.random .bar i { background: var(--faint) } .scores td { vertical-align: middle } .scores td:last-child { width: 28% }
svg { width: 100%; max-width: 34rem; height: auto } svg text { font: 13px system-ui, sans-serif; fill: var(--faint) }
svg path { fill: none; stroke-width: 2 } svg path.grid { stroke: var(--line); stroke-width: 1 }
svg path.first { stroke: var(--first) } svg path.second { stroke: var(--second) }
svg text.first { fill: var(--first) } svg text.second { fill: var(--second) }
code, pre { font: .9em ui-monospace, monospace; overflow-wrap: anywhere }
pre { white-space: pre-wrap; border: 1px solid var(--line); border-radius: .4rem; padding: .8rem }
.hit { font-weight: 600 } p.note { color: var(--faint) }
"""


def write_page(
    path: Path,
    *,
    title: str,
    lead: Sequence[str],
    curve: tuple[Points, Points],
    scores: Sequence[tuple[str, float, str]],
    question: str,
    completions: Sequence[tuple[str, Sequence[tuple[str, float]], bool]],
    rule: str,
    places: Iterable[tuple[str, str]],
    commands: Sequence[str],
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        title: heading of the page.
        lead: paragraphs under the heading.
        curve: (tokens, loss in nats per masked token) of the training batches, and of held-out text.
        scores: initial weights, mean accuracy, and the same with its interval in words.
        question: what the accuracy is of.
        completions: each sentence, its most probable words with their probabilities, and whether the first is right.
        rule: how the sentences and the words that are right were chosen.
        places: folders and files, and what they hold.
        commands: what to type next.
    """
    words = "".join(_completion(*row) for row in completions)
    bars = "".join(_score(*row) for row in scores)
    rows = "".join(f"<tr><td><code>{_text(where)}</code></td><td>{_text(what)}</td></tr>" for where, what in places)
    write_text(
        path,
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title><style>{STYLE}</style></head><body>
<h1>{_text(title)}</h1>
{"".join(f"<p>{_text(part)}</p>" for part in lead)}
<h2>Pretraining: loss per masked token</h2>
{figure(*curve)}
<h2>Fine-tuning: {_text(question)}</h2>
<table class="scores"><tr><th>initial weights</th><th>accuracy, mean [95 % interval]</th><th></th></tr>{bars}</table>
<p class="note">The bars begin at 0.5, the accuracy of guessing.</p>
<h2>Masked words</h2>
<table><tr><th>sentence</th><th>most probable words</th></tr>{words}</table>
<p class="note">{_text(rule)}</p>
<h2>Where everything lies</h2>
<table>{rows}</table>
<h2>What to type next</h2>
<pre>{_text(chr(10).join(commands))}</pre>
</body></html>
""",
    )


def read_curve(metrics: Path, loss: str) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Return (tokens, loss) of training steps and of evaluations on held-out text, from a run's `metrics.jsonl`."""
    train, held_out, tokens = [], [], 0.0
    for row in read_metrics(metrics):
        tokens = row.get("tokens", tokens)
        if loss in row:
            train.append((tokens, row[loss]))
        if f"held_out/{loss}" in row:
            held_out.append((tokens, row[f"held_out/{loss}"]))
    return train, held_out


def figure(train: Points, held_out: Points) -> str:
    """Return the two curves as SVG, losses against millions of tokens; training losses are means of rows in a row."""
    number = min(POINTS, len(train))
    ends = [place * len(train) // number for place in range(number + 1)] if number else []
    smooth = [_mean(train[first:last]) for first, last in pairwise(ends)]
    every = [*smooth, *held_out]
    if not every:
        return "<p>No loss was recorded.</p>"
    right = max(tokens for tokens, _ in every) or 1.0
    low, high = int(min(loss for _, loss in every)), int(max(loss for _, loss in every)) + 1

    def at(tokens: float, loss: float) -> str:
        x = LEFT + tokens / right * (WIDTH - LEFT - RIGHT)
        return f"{x:.1f} {TOP + (high - loss) / (high - low) * (HEIGHT - TOP - BOTTOM):.1f}"

    lines = []
    for loss in range(low, high + 1):
        x, y = at(0.0, loss).split(" ")
        grid = f'<path class="grid" d="M{x} {y} H{WIDTH - RIGHT}"/>'
        lines.append(f'{grid}<text x="{LEFT - 8}" y="{float(y) + 4:.1f}" text-anchor="end">{loss}</text>')
    for tokens in ticks(right):
        x, _ = at(tokens, low).split(" ")
        lines.append(f'<text x="{x}" y="{HEIGHT - 22}" text-anchor="middle">{tokens / 1e6:g}</text>')
    lines.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 4}" text-anchor="middle">million tokens of text</text>')
    for name, points, label, height in (("first", smooth, "training", 28), ("second", held_out, "held-out text", 46)):
        if points:
            lines.append(f'<path class="{name}" d="M{" L".join(at(*point) for point in points)}"/>')
            lines.append(f'<text class="{name}" x="{WIDTH - RIGHT}" y="{height}" text-anchor="end">{label}</text>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Loss against tokens">{"".join(lines)}</svg>'


def ticks(right: float) -> list[float]:
    """Return 0 and the multiples of 1, 2 or 5 times a power of ten up to `right`, at most `TICKS` of them."""
    power = 10.0 ** math.floor(math.log10(right / TICKS))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if right / step <= TICKS)
    return [number * step for number in range(int(right / step) + 1)]


def _mean(points: Points) -> tuple[float, float]:
    tokens, losses = zip(*points, strict=True)
    return sum(tokens) / len(tokens), sum(losses) / len(losses)


def _score(name: str, mean: float, told: str) -> str:
    share = max(0.0, 2 * (mean - 0.5))
    bar = f'<div class="bar"><i style="width:{share:.0%}"></i></div>'
    return f'<tr class="{_text(name)}"><td>{_text(name)}</td><td class="number">{_text(told)}</td><td>{bar}</td></tr>'


def _completion(sentence: str, words: Sequence[tuple[str, float]], right: bool) -> str:
    told = [f"{_text(word)} {chance:.0%}" for word, chance in words]
    if right and told:
        told[0] = f'<span class="hit">{told[0]}</span>'
    return f"<tr><td>{_text(sentence)}</td><td>{', '.join(told)}</td></tr>"


def _text(value: str) -> str:
    return html.escape(str(value))

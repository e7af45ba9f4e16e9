"""The page of the quickstart: one HTML file that holds its own style and its figure."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from genus.cli.plot import RIGHT, STYLE, WIDTH, Axis, Frame, document, escaped, ticks
from genus.files import write_text
from genus.train.record import read_metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    Points = Sequence[tuple[float, float]]

POINTS = 30
"""Most points of the training curve, each a mean."""
OWN_STYLE = """
.random .bar i { background: var(--faint) } .scores td { vertical-align: middle } .scores td:last-child { width: 28% }
pre { white-space: pre-wrap; border: 1px solid var(--line); border-radius: .4rem; padding: .8rem }
.hit { font-weight: 600 }
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
    rows = "".join(f"<tr><td><code>{escaped(where)}</code></td><td>{escaped(what)}</td></tr>" for where, what in places)
    body = f"""{"".join(f"<p>{escaped(part)}</p>" for part in lead)}
<h2>Pretraining: loss per masked token</h2>
{figure(*curve)}
<h2>Fine-tuning: {escaped(question)}</h2>
<table class="scores"><tr><th>initial weights</th><th>accuracy, mean [95 % interval]</th><th></th></tr>{bars}</table>
<p class="note">The bars begin at 0.5, the accuracy of guessing.</p>
<h2>Masked words</h2>
<table><tr><th>sentence</th><th>most probable words</th></tr>{words}</table>
<p class="note">{escaped(rule)}</p>
<h2>Where everything lies</h2>
<table>{rows}</table>
<h2>What to type next</h2>
<pre>{escaped(chr(10).join(commands))}</pre>"""
    write_text(path, document(title, STYLE + OWN_STYLE, body))


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
    x = Axis(0.0, right, [(tokens, f"{tokens / 1e6:g}") for tokens in ticks(right)], "million tokens of text")
    frame, drawn = Frame(x, Axis(low, high, [(loss, str(loss)) for loss in range(low, high + 1)])), []
    for name, points, label, height in (("first", smooth, "training", 28), ("second", held_out, "held-out text", 46)):
        if points:
            drawn.append(frame.path(name, points))
            drawn.append(f'<text class="{name}" x="{WIDTH - RIGHT}" y="{height}" text-anchor="end">{label}</text>')
    return frame.svg("Loss against tokens", drawn)


def _mean(points: Points) -> tuple[float, float]:
    tokens, losses = zip(*points, strict=True)
    return sum(tokens) / len(tokens), sum(losses) / len(losses)


def _score(name: str, mean: float, told: str) -> str:
    share = max(0.0, 2 * (mean - 0.5))
    bar = f'<div class="bar"><i style="width:{share:.0%}"></i></div>'
    name = escaped(name)
    return f'<tr class="{name}"><td>{name}</td><td class="number">{escaped(told)}</td><td>{bar}</td></tr>'


def _completion(sentence: str, words: Sequence[tuple[str, float]], right: bool) -> str:
    told = [f"{escaped(word)} {chance:.0%}" for word, chance in words]
    if right and told:
        told[0] = f'<span class="hit">{told[0]}</span>'
    return f"<tr><td>{escaped(sentence)}</td><td>{', '.join(told)}</td></tr>"

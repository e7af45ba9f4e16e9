"""The figure of `preferences.py`: reward against KL, as in Ziegler et al. 2019."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from genus.cli.plot import STYLE, Axis, Frame, document, escaped, standing_alone, ticks

STYLED = (
    STYLE
    + """
svg path.ppo { stroke: var(--first); stroke-width: 1; opacity: .55 } svg circle.ppo { fill: var(--first) }
svg circle.dpo { fill: var(--second) } svg path.best { stroke: var(--faint); stroke-dasharray: 4 3 }
svg circle.sft { fill: none; stroke: var(--second); stroke-width: 2 } svg text.named { font-size: 9px }
"""
)
SMOOTH = 4
"""Batches of a curve whose mean is a point."""


def figure(runs: dict[str, Any], *, alone: bool = False) -> str:
    """Return reward against KL: a line for each run of PPO while it learns, points for ends, dashes for best of n."""
    points = [(one["kl"], one["reward"]) for one in runs.values()]
    points += [point for one in runs.values() for point in curve(one)]
    low, high, right = min(y for _, y in points), max(y for _, y in points), max(x for x, _ in points)
    down, up = low - 0.05 * (high - low or 1), high + 0.05 * (high - low or 1)
    right = max(right, 0.1) * 1.05
    frame = Frame(
        Axis(
            min(0.0, *(x for x, _ in points)),
            right,
            [(x, f"{x:g}") for x in ticks(right)],
            "KL to the start, nats a response",
        ),
        Axis(down, up, [(y, f"{y:.3g}") for y in ticks(up, down)], "log-odds of positive"),
        height=320,
        left=48,
    )
    drawn = []
    for name, one in runs.items():
        kind = name.split("-")[0]
        if len(line := curve(one)) > 1:
            drawn.append(frame.path(kind, line))
        if kind != "best":
            x, y = frame.at_x(one["kl"]), frame.at_y(one["reward"])
            drawn.append(
                f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{escaped(name)}</title></circle>'
            )
    made = frame.svg(
        "Reward against divergence: PPO while it learns, DPO, fine-tuning on the best of four, best of n", drawn
    )
    return standing_alone(made, STYLED.replace("body", "svg.none")) if alone else made


def curve(run: dict[str, Any]) -> list[tuple[float, float]]:
    """Return the points of a run's curve, each a mean of neighbors; those of best of n as they are."""
    found = [(one["kl"], one["reward"]) for one in run.get("curve", [])]
    if "n" in run:
        return found
    parts = [found[at : at + SMOOTH] for at in range(0, len(found), SMOOTH)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def page(found: dict[str, Any]) -> str:
    """Return the page of the results."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, one in found["runs"].items():
        groups[re.sub(r"-seed-\d+$", "", name)].append(one)
    rows = "".join(
        f"<tr><td>{escaped(name)}</td>"
        + "".join(f'<td class="number">{spread([one[key] for one in several])}</td>' for key in ("reward", "kl"))
        + f"<td>{len(several)}</td></tr>"
        for name, several in groups.items()
    )
    model = found["reward_model"]
    body = f"""{figure(found["runs"])}
<p class="note">Lines: PPO while it learns (means of {SMOOTH} batches). Filled points: ends of PPO (blue) and DPO
(orange), on the same held-out prompts. Ring: fine-tuning on the best of four. Dashes: best of n, n = 1 to 16, at the
most that its KL can be.</p>
<table><tr><th>way</th><th>log-odds</th><th>KL, nats</th><th>seeds</th></tr>{rows}</table>
<p>A reward model of the best of four agrees with the rule in {model["accuracy"]:.1%} of held-out rows (chance
{model["chance"]:.0%}).</p>"""
    return document("Reward against divergence, learning from preferences", STYLED, body)


def spread(values: list[float]) -> str:
    """Return the mean of values, and from where to where they lie, if there are several."""
    mean = f"{sum(values) / len(values):.2f}"
    return mean if len(values) < 2 else f"{mean} ({min(values):.2f} to {max(values):.2f})"

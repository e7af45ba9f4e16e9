"""Loss curves of runs, and the tokens after which a run has left the plateau of single tokens' frequencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genus.train.record import read_metrics

if TYPE_CHECKING:
    from pathlib import Path


def curve(metrics: Path, tokens: int) -> list[dict[str, float]]:
    """Return a run's evaluations on held-out text, each with the tokens that were trained on before it.

    Args:
        metrics: the run's `metrics.jsonl`.
        tokens: of the whole run, at whose end is the last evaluation.
    """
    rows = read_metrics(metrics)
    known = {row["step"]: row["tokens"] for row in rows if "tokens" in row}
    evaluations = [row for row in rows if "tokens" not in row]
    return [
        {"tokens": known.get(row["step"], tokens)}
        | {name.removeprefix("held_out/"): value for name, value in row.items() if name.startswith("held_out/")}
        for row in evaluations
    ]


def below(run: dict[str, Any], share: float) -> float | None:
    """Return the tokens after which the loss of single tokens was low for good; None: never, or there is no such loss.

    Of the evaluations on held-out text the first one is taken from which on the loss is at most that share of the
    entropy of single tokens.
    """
    if not run["token_losses"]:
        return None
    name, level = run["token_losses"][0], share * run["entropy"]
    low = [point[name] is not None and point[name] <= level for point in run["curve"]]
    first = len(low) - next((number for number, one in enumerate(reversed(low)) if not one), len(low))
    return None if first == len(low) else float(run["curve"][first]["tokens"])

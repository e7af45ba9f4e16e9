"""What a run's metrics say while it trains: where it is, how long it takes still, and where its loss leapt."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from genus.errors import GenusError
from genus.files import expecting
from genus.run_folder import RunFolder
from genus.train.record import read_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WINDOW = 20
"""Rows before one, by which it is judged whether the loss leapt."""
FAR = 8.0
"""Median absolute deviations above the median of the window from which on a loss counts as a spike."""
LEAST = 0.02
"""Share of the loss that a spike rises at least: where losses hardly differ, every one would be far off."""
CURVES = {
    "loss": "loss",
    "lr": "learning rate",
    "gradient_norm": "gradient norm",
    "tokens_per_second": "tokens/s",
    "utilization": "share of the peak",
    "noise_scale": "gradient noise scale, rows",
}
"""Values of training rows that are shown, by what they are called."""
HELD_OUT = "held_out/"
ENDED = 0.9999
"""Share of the budget from which on a run has ended, as its last row may not be its last step."""


@dataclass(frozen=True)
class Watched:
    """A run as its files stand."""

    name: str
    rows: tuple[dict[str, Any], ...]
    """Training rows of `metrics.jsonl`."""
    evaluations: tuple[dict[str, Any], ...]
    age: float
    """Seconds since the last row was written."""

    @property
    def last(self) -> dict[str, Any]:
        """The last training row."""
        return self.rows[-1]

    @property
    def ended(self) -> bool:
        """Whether the budget is spent: the last evaluation comes after the last row, or the row says so."""
        pace = self.last["spent"] / self.last["step"]
        step = self.evaluations[-1]["step"] if self.evaluations else 0
        return bool(self.last["spent"] >= ENDED or step * pace >= ENDED)

    @property
    def seconds_left(self) -> float:
        """Seconds of training that are left, at the pace of the last rows."""
        if self.ended:
            return 0.0
        first = self.rows[max(0, len(self.rows) - WINDOW)] if len(self.rows) > 1 else {"seconds": 0.0, "spent": 0.0}
        seconds, spent = self.last["seconds"] - first["seconds"], self.last["spent"] - first["spent"]
        return float((1 - self.last["spent"]) * seconds / spent) if spent > 0 else float("inf")

    def curve(self, name: str) -> list[tuple[float, float]]:
        """Return the steps and values of a name, those that are not finite left out."""
        source = self.evaluations if name.startswith(HELD_OUT) else self.rows
        return [(row["step"], row[name]) for row in source if row.get(name) is not None]

    @property
    def spikes(self) -> list[tuple[float, float]]:
        """Steps and losses that leapt above those before."""
        return spikes(self.curve("loss"))

    def names(self) -> list[str]:
        """Return the names of all curves: of training, then held out."""
        held_out = dict.fromkeys(key for row in self.evaluations for key in row if key.startswith(HELD_OUT))
        return [*(name for name in CURVES if self.curve(name)), *held_out]

    def to_json(self) -> dict[str, Any]:
        """Return where the run stands."""
        left = self.seconds_left
        return {
            "name": self.name,
            "ended": self.ended,
            "seconds_left": left if left != float("inf") else None,
            "age": self.age,
            "last": self.last,
            "evaluation": self.evaluations[-1] if self.evaluations else None,
            "spikes": [{"step": step, "loss": loss} for step, loss in self.spikes],
        }


def watched(folder: Path) -> Watched:
    """Read a run.

    Raises:
        GenusError: there is no pretraining run with a step, or its metrics are damaged.
    """
    metrics = folder / "metrics.jsonl"
    if RunFolder(folder).content() != "a pretraining run" or not metrics.exists():
        raise GenusError(f"{folder}: is no pretraining run with metrics.jsonl; name the folder of one that has begun")
    with expecting(metrics, "resume the run, which leaves damaged lines out"):
        rows = read_metrics(metrics)
        steps = tuple(row for row in rows if "loss" in row)
        found = tuple(row for row in rows if any(name.startswith(HELD_OUT) for name in row))
        age = max(0.0, time.time() - metrics.stat().st_mtime)
        if not steps:
            raise GenusError(f"{metrics}: has no step yet; try again when the run has made --run log_every steps")
        return Watched(folder.resolve().name, steps, found, age)


def spikes(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points of a curve that lie far above the `WINDOW` before them: above median + `FAR` x MAD."""
    found = []
    for place in range(WINDOW, len(curve)):
        before = [value for _, value in curve[place - WINDOW : place]]
        middle = median(before)
        spread = median(abs(value - middle) for value in before)
        step, value = curve[place]
        if value > middle + max(FAR * spread, LEAST * abs(middle)):
            found.append((step, value))
    return found

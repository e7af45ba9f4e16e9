"""How fast a device was in a run, as a share of its peak."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from genus.cost import stage_cost
from genus.devices import known_as
from genus.errors import GenusError
from genus.files import expecting, read_json
from genus.recipe import Recipe
from genus.run_folder import RunFolder
from genus.train.record import read_metrics

if TYPE_CHECKING:
    from pathlib import Path

    from genus.devices import Device

RECENT = 20
"""Rows of `metrics.jsonl` that count, from the last on."""


def measured(folder: Path, device: Device) -> float:
    """Return the share of a device's peak that a run's devices reached, communication included, in its last rows.

    Where the run's devices are others, it is what the device would do if it were as fast as they were.

    Raises:
        GenusError: there is no pretraining run with metrics, or it is damaged.
    """
    run, metrics = RunFolder(folder), folder / "metrics.jsonl"
    if run.content() != "a pretraining run" or not metrics.exists():
        raise GenusError(f"{folder}: is no pretraining run with metrics.jsonl; name the folder of one that has begun")
    recipe = run.choices(Recipe)
    with expecting(metrics, "name another run"):
        rows = [row for row in read_metrics(metrics) if "tokens_per_second" in row][-RECENT:]
        if not rows:
            raise GenusError(f"{metrics}: has no step yet; try again when the run has made --run log_every steps")
        session: dict[str, Any] = read_json(folder / "run.json")["sessions"][-1]
        known = known_as(session["device"])
        if known is not None and all("utilization" in row for row in rows):
            return float(median(row["utilization"] for row in rows)) * known.flops / device.flops
        stage = recipe.stages[rows[-1]["stage"]]
        rate = median(row["tokens_per_second"] for row in rows) * stage_cost(recipe, stage).flops_training
        return float(rate / session["processes"] / device.flops)

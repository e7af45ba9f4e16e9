"""Predictions of a run's held-out loss, written before it is trained, and compared with it afterwards."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from genus.cost import stage_cost
from genus.errors import UsageError
from genus.files import expecting, read_json, write_json
from genus.scale.points import read_runs, size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.recipe import Recipe
    from genus.scale.fit import Fit
    from genus.scale.laws import Of
    from genus.scale.points import Point

CLOSE = 0.05
"""Relative difference of size or data up to which a run counts as the one that was predicted."""


@dataclass(frozen=True)
class Prediction:
    """A loss that a law predicts, with its 95 % interval."""

    written: str
    """Date and time, in UTC."""
    name: str
    metric: str
    parameters: float
    tokens: float
    flops: float
    loss: float
    low: float
    high: float
    law: dict[str, Any]
    """With its constants and their intervals."""
    tables: bool = True
    """Whether parameters include those that grow with the vocabulary."""

    def save(self, path: Path) -> None:
        """Write the prediction; one that is there already is not replaced, as it was made earlier.

        Raises:
            UsageError: there is a file.
        """
        if path.exists():
            raise UsageError(f"{path}: holds a prediction already, which stays as it is; name another file")
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Prediction:
        """Read a prediction (GenusError: it is damaged or not there)."""
        with expecting(path, "name a file that genus scale plan --out wrote"):
            return cls(**read_json(path))


@dataclass(frozen=True)
class Outcome:
    """A prediction beside the run that it was about."""

    predicted: float
    low: float
    high: float
    measured: float
    error: float
    """Measured over predicted loss, minus 1."""
    inside: bool
    """Whether the interval holds the measured loss."""
    before: bool
    """Whether the prediction was written before the run was started."""
    notes: tuple[str, ...]


def place_of(recipe: Recipe, *, tables: bool = True) -> Point:
    """Return N, D and C of a recipe's whole budget; its loss is not a number.

    Raises:
        UsageError: the budget says no number of tokens.
    """
    from genus.scale.points import Point

    amount, tokens, flops = recipe.budget.amount, 0.0, 0.0
    for stage in recipe.stages:
        costs = stage_cost(recipe, stage)
        by_unit = {
            "tokens": amount,
            "steps": amount * stage.batch * stage.max_length,
            "flops": amount / costs.flops_training,
        }
        if recipe.budget.unit not in by_unit:
            raise UsageError(f"budget.unit: {recipe.budget.unit} say no number of tokens; take tokens, flops or steps")
        own = stage.share * by_unit[recipe.budget.unit]
        tokens, flops = tokens + own, flops + own * costs.flops_training
    return Point(size(recipe, tables=tables), tokens, flops, math.nan)


def predict(fitted: Fit, at: Point, name: str, metric: str, *, tables: bool = True) -> Prediction:
    """Return what a law predicts of a run."""
    inputs: Sequence[Of] = fitted.law.inputs
    values = [getattr(at, one) for one in inputs]
    low, high = fitted.predicted(values)
    return Prediction(
        written=datetime.now(UTC).isoformat(timespec="seconds"),
        name=name,
        metric=metric,
        parameters=at.parameters,
        tokens=at.tokens,
        flops=at.flops,
        loss=fitted.loss(values),
        low=low,
        high=high,
        law=fitted.to_json(),
        tables=tables,
    )


def compare(prediction: Prediction, folder: Path) -> Outcome:
    """Return how far off a prediction was.

    Raises:
        GenusError: the run has no evaluation, or is damaged.
    """
    (run,) = read_runs([folder], prediction.metric, tables=prediction.tables)
    reached, notes = run.last, []
    for what in ("parameters", "tokens"):
        said, found = getattr(prediction, what), getattr(reached, what)
        if abs(math.log(found / said)) > CLOSE:
            notes.append(f"the run has {found:,.4g} {what}, and the prediction is about {said:,.4g}")
    if not run.finished:
        notes.append("the run has not ended")
    with expecting(folder / "run.json", "name another run"):
        started = min(datetime.fromisoformat(one["started"]) for one in read_json(folder / "run.json")["sessions"])
    return Outcome(
        prediction.loss,
        prediction.low,
        prediction.high,
        reached.loss,
        reached.loss / prediction.loss - 1,
        prediction.low <= reached.loss <= prediction.high,
        datetime.fromisoformat(prediction.written) <= started,
        tuple(notes),
    )

"""What runs say of loss by size, data and compute: read from run folders, or from a table."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.cost import parameters, stage_cost
from genus.errors import GenusError, UsageError
from genus.files import expecting
from genus.recipe import Recipe
from genus.run_folder import RunFolder
from genus.train.record import read_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SIX = 6.0
"""FLOPs per parameter and token, where a table has no FLOPs (Kaplan et al. 2020, section 2.1)."""
DONE = 0.995
"""Share of the budget from which on a run counts as finished: steps between two rows are not told."""
REPEATED = 4.0
"""Epochs up to which repeated text is about as good as new text (Muennighoff et al. 2023, arXiv:2305.16264)."""
COLUMNS = ("parameters", "tokens", "loss")


@dataclass(frozen=True)
class Point:
    """One measurement: N, D, C and L."""

    parameters: float
    tokens: float
    flops: float
    loss: float


@dataclass(frozen=True)
class Measured:
    """A run with all its evaluations; laws are fitted to the last, as those before had a learning rate too high."""

    name: str
    curve: tuple[Point, ...]
    finished: bool = True
    epochs: float = 0.0

    @property
    def last(self) -> Point:
        """The last evaluation."""
        return self.curve[-1]


def read_runs(paths: Sequence[Path], metric: str = "loss", *, tables: bool = True) -> list[Measured]:
    """Return runs by folders, and by tables (`.csv`) with a line for each run.

    Args:
        paths: run folders, folders of run folders, and tables with the columns parameters, tokens, loss[, flops].
        metric: a held-out metric of `metrics.jsonl`, without the prefix `held_out/`.
        tables: whether parameters include those that grow with the vocabulary: embeddings and output layer.

    Raises:
        GenusError: there is no run with evaluations, or it is damaged.
        UsageError: a table lacks a column.
    """
    found = []
    for path in paths:
        if path.suffix == ".csv":
            found += _of_table(path)
        elif RunFolder(path).content() == "a pretraining run" and (path / "metrics.jsonl").exists():
            found.append(_of_run(path, metric, tables))
        else:
            within = sorted(one.parent for one in path.glob("*/metrics.jsonl") if (one.parent / "recipe.json").exists())
            if not within:
                raise GenusError(f"{path}: is no pretraining run with metrics.jsonl, holds none, and is no .csv table")
            found += [_of_run(one, metric, tables) for one in within]
    return found


def notices(runs: Sequence[Measured]) -> list[str]:
    """Return in words what makes runs poor points."""
    open_ones = [run.name for run in runs if not run.finished]
    often = [run.name for run in runs if run.epochs > REPEATED]
    told = []
    if open_ones:
        told.append(f"{len(open_ones)} runs have not ended, and are left out: {', '.join(open_ones[:3])}")
    if often:
        told.append(f"{len(often)} runs read their text more than {REPEATED:g} times, so that tokens say too much: "
                    f"{', '.join(often[:3])}")  # fmt: skip
    return told


def size(recipe: Recipe, *, tables: bool = True) -> float:
    """Return the parameters of a recipe, or of its network without those that grow with the vocabulary."""
    if tables:
        return float(parameters(recipe))
    rows = recipe.vocab_rows
    a_row = recipe.model.parameters(rows + 1) - recipe.model.parameters(rows)
    return float(recipe.model.parameters(rows) - rows * a_row)


def _of_run(folder: Path, metric: str, tables: bool) -> Measured:
    """Return a run with every evaluation that it made."""
    path, name = folder / "metrics.jsonl", f"held_out/{metric}"
    recipe = RunFolder(folder).choices(Recipe)
    with expecting(path, "resume the run, which leaves damaged lines out"):
        rows = read_metrics(path)
        steps = [row for row in rows if "loss" in row]
        evaluations = [row for row in rows if row.get(name) is not None]
    if not steps or not evaluations:
        known = sorted({key.removeprefix("held_out/") for row in rows for key in row if key.startswith("held_out/")})
        advice = f"it has {', '.join(known)}" if known else "it needs --run held_out above 0, and --run log_every steps"
        raise GenusError(f"{path}: has no evaluation of {metric}; {advice}")
    n, a_token = size(recipe, tables=tables), stage_cost(recipe, recipe.stages[-1]).flops_training
    at = [0.0, *(row["step"] for row in steps)]
    tokens, spent = ([0.0, *(row[key] for row in steps)] for key in ("tokens", "spent"))
    curve = []
    for row in evaluations:
        read = _at(row["step"], at, tokens)
        curve.append(Point(n, read, read * a_token, row[name]))
    finished = _at(evaluations[-1]["step"], at, spent) >= DONE
    return Measured(folder.name, tuple(curve), finished, steps[-1]["epochs"])


def _at(step: float, steps: Sequence[float], values: Sequence[float]) -> float:
    """Return a value at a step, between those of rows and, past the last, at the pace until there."""
    if step <= steps[-1]:
        return float(np.interp(step, steps, values))
    return values[-1] * step / steps[-1]


def _of_table(path: Path) -> list[Measured]:
    """Return the runs of a table, each with one point."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise GenusError(f"{path}: cannot be read: {error}") from None
    if not rows or (missing := [name for name in COLUMNS if name not in rows[0]]):
        raise UsageError(f"{path}: needs the columns {', '.join(COLUMNS)}, and may have flops; lacks "
                         f"{', '.join(missing) if rows else 'all rows'}")  # fmt: skip
    return [Measured(f"{path.name}:{number}", (_point(path, number, row),)) for number, row in enumerate(rows, 2)]


def _point(path: Path, line: int, row: dict[str, Any]) -> Point:
    try:
        n, d, loss = (float(row[name]) for name in COLUMNS)
        flops = float(row.get("flops") or SIX * n * d)
    except (TypeError, ValueError):
        raise UsageError(f"{path}, line {line}: expected numbers, got {list(row.values())[:4]}") from None
    if not all(math.isfinite(number) and number > 0 for number in (n, d, flops, loss)):
        raise UsageError(f"{path}, line {line}: expected numbers above 0")
    return Point(n, d, flops, loss)

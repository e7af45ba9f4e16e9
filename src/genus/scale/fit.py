"""Fits of laws to points: Huber loss of log residuals from a grid of starts, and bootstrap intervals.

Source: Hoffmann et al. 2022 (arXiv:2203.15556), section 3.3 and appendix D.3; Besiroglu et al. 2024 (arXiv:2404.10102),
who sum the loss where the paper had averaged it, so that it is minimized to the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genus.errors import GenusError
from genus.scale.minimize import minimize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from genus.scale.laws import Law
    from genus.scale.points import Point

DELTA = 1e-3
"""Residual of log L from which on the Huber loss is linear (section 3.3)."""
TRIED, FOLLOWED, FIRST = 96, 6, 40
"""Starts of the grid, those of least loss, from which is minimized for some steps; and how many of these to the end."""
REDRAWN = 80
"""Steps for resampled points, which begin at the constants of all points."""
RESAMPLES = 200
INTERVAL = (0.025, 0.975)


@dataclass(frozen=True)
class Fit:
    """A law with the constants that fit points best."""

    law: Law
    theta: tuple[float, ...]
    means: tuple[float, ...]
    """Of the logarithms of the inputs."""
    resampled: tuple[tuple[float, ...], ...]
    """Coordinates for points drawn with replacement."""
    residuals: tuple[float, ...]
    """Of log L."""

    @property
    def constants(self) -> dict[str, float]:
        """The constants of the law's paper."""
        return self.law.constants(self.theta, self.means)

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return the 95 % intervals of the constants over resampled points (percentiles)."""
        each = [self.law.constants(theta, self.means) for theta in self.resampled]
        return {name: _interval([one[name] for one in each]) for name in self.constants} if each else {}

    def loss(self, at: Sequence[float]) -> float:
        """Return the loss at N, D or C, in the order of the law's inputs."""
        return math.exp(float(self._logs([self.theta], at)[0]))

    def predicted(self, at: Sequence[float], seed: int = 0) -> tuple[float, float]:
        """Return the 95 % interval of a new run's loss: over resampled points, each with a residual of the fit."""
        drawn = np.random.default_rng(seed).choice(self.residuals, len(self.resampled) or 1)
        low, high = _interval(self._logs(self.resampled or [self.theta], at).numpy() + drawn)
        return math.exp(low), math.exp(high)

    def _logs(self, thetas: Sequence[Sequence[float]], at: Sequence[float]) -> Tensor:
        logs = torch.tensor([[math.log(x) - mean for x, mean in zip(at, self.means, strict=True)]], dtype=torch.float64)
        return self.law.log_loss(torch.tensor(thetas, dtype=torch.float64), logs)[:, 0]

    def to_json(self) -> dict[str, Any]:
        """Return the law with constants, intervals and the size of residuals."""
        return {
            "law": self.law.to_json(),
            "constants": self.constants,
            "intervals": {name: list(pair) for name, pair in self.intervals().items()},
            "points": len(self.residuals),
            "typical_error": float(np.median(np.abs(self.residuals))),
        }


def fit(law: Law, points: Sequence[Point], *, resamples: int = RESAMPLES, seed: int = 0) -> Fit:
    """Fit a law to points.

    Raises:
        GenusError: there are fewer points than constants, or all have the same size or the same data.
    """
    wanted = " and ".join(law.inputs)
    values = np.array([[getattr(point, name) for name in law.inputs] for point in points]).reshape(len(points), -1)
    if len(points) <= law.coordinates:
        raise GenusError(f"{type(law).__name__} of {wanted} has {law.coordinates} constants, for which {len(points)} "
                         "runs are too few; make more of them (genus scale ladder)")  # fmt: skip
    if flat := [name for name, column in zip(law.inputs, values.T, strict=True) if len(set(column)) < 2]:
        raise GenusError(f"{type(law).__name__}: all runs have the same {flat[0]}; make some with others")
    logs = torch.tensor(np.log(values))
    means = logs.mean(0)
    logs, losses = logs - means, torch.tensor([math.log(point.loss) for point in points], dtype=torch.float64)
    starts = law.starts(means.tolist(), float(losses.mean()))
    one = torch.ones(1, len(points), dtype=torch.float64)
    objective = _objective(law, logs, losses, one)
    found, value = minimize(objective, _nearest(law, starts, logs, losses), FIRST)
    found, value = minimize(objective, found[value.argsort()[:FOLLOWED]])
    best = found[value.argmin()]
    resampled = torch.empty(0, law.coordinates, dtype=torch.float64)
    if resamples:
        drawn = np.random.default_rng(seed).integers(0, len(points), (resamples, len(points)))
        counts = torch.tensor(np.stack([np.bincount(row, minlength=len(points)) for row in drawn]), dtype=torch.float64)
        resampled, _ = minimize(_objective(law, logs, losses, counts), best.repeat(resamples, 1), REDRAWN)
    residuals = losses - law.log_loss(best[None], logs)[0]
    return Fit(law, tuple(best.tolist()), tuple(means.tolist()), tuple(map(tuple, resampled.tolist())),
               tuple(residuals.tolist()))  # fmt: skip


def _nearest(law: Law, starts: Tensor, logs: Tensor, losses: Tensor) -> Tensor:
    """Return the starts of least loss."""
    ones = torch.ones(1, len(losses), dtype=torch.float64)
    values = torch.cat([_objective(law, logs, losses, ones)(part) for part in torch.split(starts, 512)])
    return starts[values.nan_to_num(torch.inf).argsort()[:TRIED]]


def _objective(law: Law, logs: Tensor, losses: Tensor, weights: Tensor) -> Any:
    """Return the function of (S, P) coordinates that is minimized: weighted sums of the Huber loss, in units of δ."""

    def summed(theta: Tensor) -> Tensor:
        apart = (law.log_loss(theta, logs) - losses).abs()
        huber = torch.where(apart <= DELTA, apart**2 / 2, DELTA * (apart - DELTA / 2)) / DELTA
        total: Tensor = (weights * huber).sum(1)
        return total

    return summed


def _interval(values: Any) -> tuple[float, float]:
    low, high = np.quantile(np.asarray(values, float), INTERVAL, method="nearest")
    return float(low), float(high)

"""Learning-rate schedules: functions of the fraction of the budget that is spent."""

from __future__ import annotations

import math

from genus.optim import Schedule


class Linear(Schedule):
    """Rises linearly over `warmup`, a fraction of the budget, then falls linearly to 0 (Devlin et al. 2018, A.2).

    Deviation: BERT's released code (optimization.py) starts the fall at 0 spent, so that its rate drops at once from
    the peak to 1 - warmup of it where the warm-up ends; here, as in RoBERTa's code, the fall starts at the peak.
    """

    warmup: float = 0.01

    def factor(self, spent: float) -> float:
        """Return min(spent / warmup, (1 - spent) / (1 - warmup))."""
        if spent < self.warmup:
            return spent / self.warmup
        return max(0.0, (1.0 - spent) / (1.0 - self.warmup))


class Constant(Schedule):
    """Rises linearly over `warmup` (a fraction of the budget), then stays at the peak."""

    warmup: float = 0.0

    def factor(self, spent: float) -> float:
        """Return min(spent / warmup, 1)."""
        return spent / self.warmup if spent < self.warmup else 1.0


class Cosine(Schedule):
    """Rises linearly over `warmup`, then falls along half a cosine to `floor` (Loshchilov and Hutter 2016, eq. 5)."""

    warmup: float = 0.01
    floor: float = 0.0
    """Of the peak, at the end."""

    def factor(self, spent: float) -> float:
        """Return spent / warmup, then floor + (1 - floor) (1 + cos(π (spent - warmup) / (1 - warmup))) / 2."""
        if spent < self.warmup:
            return spent / self.warmup
        fallen = min(1.0, (spent - self.warmup) / (1.0 - self.warmup))
        return self.floor + (1.0 - self.floor) * (1.0 + math.cos(math.pi * fallen)) / 2.0


class InverseSquareRoot(Schedule):
    """Rises linearly over `warmup`, then falls as 1 / √spent (Vaswani et al. 2017, section 5.3)."""

    warmup: float = 0.01

    def __post_init__(self) -> None:
        """Refuse no warm-up: the fall is measured by it."""
        if self.warmup <= 0:
            raise ValueError(f"warmup: expected more than 0, got {self.warmup:g}")

    def factor(self, spent: float) -> float:
        """Return min(spent / warmup, √(warmup / spent))."""
        return spent / self.warmup if spent < self.warmup else math.sqrt(self.warmup / spent)
